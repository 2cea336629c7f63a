"""Writes the tables of scikit-learn as CSV files, a quarter of the rows for testing: export.py FOLDER."""

import sys
from pathlib import Path

from sklearn import datasets
from sklearn.model_selection import train_test_split


def main(folder):
    for name in ["iris", "wine", "breast_cancer", "digits", "diabetes"]:
        data = getattr(datasets, f"load_{name}")(as_frame=True)
        table = data.frame
        if name != "diabetes":
            names = [str(n) for n in data.target_names]
            table["target"] = [names[k] for k in data.target]
        classes = None if name == "diabetes" else table["target"]
        train, test = train_test_split(table, test_size=0.25, random_state=0, stratify=classes)
        for part, rows in [("train", train), ("test", test)]:
            rows.to_csv(Path(folder) / f"{name}-{part}.csv", index=False)


main(sys.argv[1])

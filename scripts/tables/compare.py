"""Trains on each table in floats and at 4/4/4 with three seeds, and prints the mean metric of both: compare.py FOLDER."""

import json
import os
import subprocess
import sys
from pathlib import Path

SEEDS = [1, 2, 3]
# How much less the metric may be at 4/4/4: two points of accuracy, or 0.02 of R2.
BOUND = 0.02
# 331 rows with much noise: a small network with strong weight decay.
EXTRA = {
    "diabetes": ["--model", "mlp:32", "--optimizer", "adamw", "--lr", "0.003", "--set", "optimizer.weight_decay=1"]
}
EPOCHS = {"digits": 30, "diabetes": 30}


def run(folder, name, bits, seed):
    recipe, metric = ("table-regression", "r2") if name == "diabetes" else ("table", "accuracy")
    more = EXTRA.get(name, [])
    epochs = os.environ.get("EPOCHS") or str(EPOCHS.get(name, 60))
    command = [os.environ["FIXNET"], "train", recipe, "--data", f"csv:{folder}/{name}-train.csv"]
    command += ["--set", f"data.test=csv:{folder}/{name}-test.csv", "--bits", bits, "--seed", str(seed)]
    command += ["--epochs", epochs, "--out", f"{folder}/run", "--overwrite", "--json", *more]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])[f"test_{metric}"], metric


def main(folder):
    folder = Path(folder)
    print(f"{'table':<15}{'metric':<10}{'32/32/32':>10}{'4/4/4':>10}{'difference':>12}")
    for name in ["iris", "wine", "breast_cancer", "digits", "diabetes"]:
        means = []
        for bits in ["32/32/32", "4/4/4"]:
            found = [run(folder, name, bits, seed) for seed in SEEDS]
            metric = found[0][1]
            means.append(sum(value for value, _ in found) / len(found))
        print(f"{name:<15}{metric:<10}{means[0]:>10.4f}{means[1]:>10.4f}{means[1] - means[0]:>+12.4f}", flush=True)
        assert means[1] - means[0] > -BOUND, f"{name}: {metric} falls by more than {BOUND} at 4/4/4"


main(sys.argv[1])

#!/usr/bin/env python3
"""Writes the medians of the last `cargo bench --bench products` to benches/record/CPU/DATE.csv.

Columns: layer, product, kernel, median in microseconds, billions of multiply-adds a second, ratio to matrixmultiply's sgemm.
Give another criterion folder as the only argument if the target folder is not ./target.
"""

import csv
import datetime
import json
import pathlib
import re
import sys


def cpu():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return re.sub(r"[^a-z0-9]+", "-", line.split(":", 1)[1].lower()).strip("-")
    return "unknown"


def main():
    here = pathlib.Path(__file__).resolve().parent
    criterion = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent / "target" / "criterion"
    rows = {}
    for about in criterion.glob("**/new/benchmark.json"):
        what = json.loads(about.read_text())
        if "/" not in what["group_id"]:
            continue
        layer, product = what["group_id"].split("/")
        median = json.loads((about.parent / "estimates.json").read_text())["median"]["point_estimate"]
        macs = what["throughput"]["Elements"] / 2
        rows[layer, product, what["function_id"]] = (median, macs / median)
    if not rows:
        sys.exit(f"{criterion}: no records of products; run cargo bench --bench products first")
    place = here / "record" / cpu() / f"{datetime.date.today()}.csv"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["layer", "product", "kernel", "median_us", "gmacs", "ratio_to_sgemm"])
        for (layer, product, kernel), (median, gmacs) in sorted(rows.items()):
            peer = rows.get((layer, product, "matrixmultiply-sgemm"))
            ratio = f"{gmacs / peer[1]:.2f}" if peer else ""
            out.writerow([layer, product, kernel, f"{median / 1e3:.1f}", f"{gmacs:.1f}", ratio])
    print(place)


if __name__ == "__main__":
    main()

"""What a call from Python adds to a step: python crates/python/bench/overhead.py [STEPS]

A call's time less the time of its step in Rust: conversion of the batch, locks, and the way to another thread where there is one. Each number
of threads has a process of its own.
"""

import statistics
import subprocess
import sys
import time

import fixnet

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 300


def measure(threads: int) -> None:
    """Prints the medians for this number of threads."""
    fixnet.set_num_threads(threads)
    for recipe in ("digits", "mlp-digits"):
        session = fixnet.Session(recipe)
        x, y = next(iter(session.batches()))
        added, steps = [], []
        for _ in range(STEPS):
            start = time.perf_counter()
            session.step(x, y)
            whole = time.perf_counter() - start
            steps.append(session.last_step["seconds"])
            added.append(whole - steps[-1])
        step, more = (1e6 * statistics.median(times) for times in (steps, added))
        least = 1e6 * min(added)
        print(f"{recipe:<11} {threads} threads: step {step:7.0f} us, added {more:6.1f} us (least {least:.1f}), {100 * more / step:.2f} %")


if len(sys.argv) > 2:
    measure(int(sys.argv[2]))
else:
    for threads in ("1", "2"):
        subprocess.run([sys.executable, __file__, str(STEPS), threads], check=True)

"""Times whole training steps of fixnet and its peers in turns, and prints medians, ratios and peak memory.

For each network and number of threads, every contender is one process that stays alive. In each round each of them, one
after the other, takes steps for a moment, so that whatever else slows the machine slows all of them alike. A round's
figure is the median of its steps; a contender's is the median over the rounds, and a ratio is the median of the ratios
round by round. `cpu ms` is the processor time of a step, all threads together: where it lies well below `ms` on one
thread, others were using the machine, and `--clock cpu` gives truer ratios (with more threads it counts the waiting
of some, so that only an idle machine will do). `x float32` is how many times as fast as PyTorch's best float32 mode a contender is, `x bfloat16`
likewise. Peak memory is that of the whole process while it trains; `grown` is what lies above the size that the process
had before it made the network (PyTorch's libraries alone take hundreds of megabytes). Networks whose numbers
of parameters differ are an error.
"""

import argparse
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# PyTorch's modes; a perceptron has no channels_last.
MODES = "eager,channels_last,channels_last+compile,channels_last+bfloat16,channels_last+compile+bfloat16"
NETWORKS = "mlp,lenet,resnet20,resnet18,edsr,mobilenetv2,vit"
# What holds ATen, oneDNN and MKL to AVX2.
TORCH_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


class Contender:
    """A worker process: `name`, and a `kind` of float32, bfloat16 (PyTorch's), fixnet or rust."""

    def __init__(self, name, kind, command, env):
        self.name, self.kind, self.rounds, self.cpu, self.reply = name, kind, [], [], {}
        env = {**os.environ, **env}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} stopped with exit code {self.process.wait()}")
        self.reply.update(json.loads(line))
        return statistics.median(self.reply["ms"])

    def start(self, seconds):
        self.read()
        self.steps = max(1, round(1e3 * seconds / min(self.reply["ms"])))

    def cpu_ms(self):
        """The processor time of all its threads so far, where the system tells it (Linux)."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        try:
            return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6 or math.nan
        except OSError:
            return math.nan

    def round(self):
        before = self.cpu_ms()
        self.process.stdin.write(f"{self.steps}\n")
        self.process.stdin.flush()
        self.rounds.append(self.read())
        self.cpu.append((self.cpu_ms() - before) / self.steps)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def figures(self, clock):
        return self.cpu if clock == "cpu" else self.rounds

    def result(self, rivals, clock):
        out = {"contender": self.name, "kind": self.kind, "isa": self.reply["isa"]}
        out |= {"rounds_ms": self.rounds, "rounds_cpu_ms": self.cpu}
        out["ms"], out["cpu_ms"] = statistics.median(self.rounds), statistics.median(self.cpu)
        out["peak_mb"] = self.reply["peak_kb"] / 1024
        out["grown_mb"] = out["peak_mb"] - self.reply["base_kb"] / 1024
        for kind, rival in rivals.items():
            pairs = zip(rival.figures(clock), self.figures(clock))
            out[f"x_{kind}"] = statistics.median(theirs / own for theirs, own in pairs)
        return out


def contenders(args, network, threads):
    """What to start: (name, kind, command, environment) each."""
    count = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    cap = TORCH_AVX2 if args.avx2 else {}
    seen = set()
    for mode in args.modes:
        words = [w for w in mode.split("+") if network != "mlp" or w != "channels_last"]
        mode = "+".join(words) or "eager"
        if mode not in seen:
            seen.add(mode)
            kind = "bfloat16" if "bfloat16" in words else "float32"
            command = [sys.executable, str(HERE / "torch_step.py"), network, mode, threads]
            yield f"torch {mode}", kind, command, count | cap
    if args.rust and network in ("mlp", "lenet"):
        for peer in ("burn", "candle"):
            yield peer, "rust", [args.rust, peer, network], {"RAYON_NUM_THREADS": threads}
    for isa in ["avx2"] if args.avx2 else args.isa:
        for bits in args.bits:
            env = {} if isa == "best" else {"FIXNET_ISA": isa}
            yield f"fixnet {bits} {isa}", "fixnet", [args.fixnet, network, bits, threads], env


def attempt(running, contender, act):
    """One that fails is left out, with a message, and the others go on."""
    try:
        act()
    except (RuntimeError, OSError) as error:
        running.remove(contender)
        contender.stop()
        print(f"\r\033[KLEFT OUT: {error}", file=sys.stderr)


def compare(args, network, threads):
    """Runs all contenders of one network at one number of threads; gives their results and prints them."""
    running = []
    try:
        for name, kind, command, env in contenders(args, network, threads):
            print(f"\r\033[K{network}, {threads} threads: {name} warms up", end="", file=sys.stderr, flush=True)
            contender = Contender(name, kind, command, env)
            running.append(contender)
            attempt(running, contender, lambda: contender.start(args.seconds))
        counts = {c.name: c.reply["parameters"] for c in running if "parameters" in c.reply}
        if len(set(counts.values())) > 1:
            sys.exit(f"{network}: expected the same number of parameters everywhere, found {counts}")
        for i in range(args.rounds):
            print(f"\r\033[K{network}, {threads} threads: round {i + 1} of {args.rounds}", end="", file=sys.stderr)
            # Each round starts with another contender, so that nobody always follows the same one.
            turn = i % max(1, len(running))
            for contender in running[turn:] + running[:turn]:
                attempt(running, contender, contender.round)
    finally:
        for contender in running:
            contender.stop()
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    rivals = {}
    for kind in ("float32", "bfloat16"):
        group = [c for c in running if c.kind == kind]
        if group:
            rivals[kind] = min(group, key=lambda c: statistics.median(c.figures(args.clock)))
    results = [{"network": network, "threads": int(threads), **c.result(rivals, args.clock)} for c in running]
    show(network, threads, results, {kind: rival.name for kind, rival in rivals.items()})
    return results


def show(network, threads, results, rivals):
    print(f"\n{network}, {threads} thread{'s' if threads != '1' else ''}")
    print(f"{'':48}{'ms/step':>9}{'cpu ms':>9}{'x float32':>11}{'x bfloat16':>12}{'peak MB':>9}{'grown MB':>10}")
    for r in results:
        ratios = [f"{r[key]:.2f}" if key in r else "-" for key in ("x_float32", "x_bfloat16")]
        best = " *" if r["contender"] in rivals.values() else ""
        name = f"{r['contender']} ({r['isa']}){best}"
        memory = f"{r['peak_mb']:>9.0f}{r['grown_mb']:>10.0f}"
        print(f"{name:48}{r['ms']:>9.2f}{r['cpu_ms']:>9.2f}{ratios[0]:>11}{ratios[1]:>12}{memory}", flush=True)


def processor():
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main():
    def words(text):
        return [word for word in text.split(",") if word]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=words, default=NETWORKS, help=f"default {NETWORKS}")
    parser.add_argument("--threads", type=words, default="1,2", help="default 1,2")
    parser.add_argument("--bits", type=words, default="32/32/32,8/8/8,4/4/4", help="of fixnet, default %(default)s")
    parser.add_argument("--isa", type=words, default="avx2,best", help="caps on fixnet, default %(default)s")
    parser.add_argument("--modes", type=words, default=MODES, help=f"of PyTorch, default {MODES}")
    parser.add_argument("--avx2", action="store_true", help="hold fixnet and PyTorch to AVX2")
    parser.add_argument("--rounds", type=int, default=7, help="default 7")
    parser.add_argument("--seconds", type=float, default=0.7, help="of each contender in a round, default 0.7")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="what ratios are of, default wall")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes all figures there")
    parser.add_argument("--rust-peers", action="store_true", help="burn and candle too, on mlp and lenet")
    parser.add_argument("--fixnet", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rust", help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = set(args.networks) - set(words(NETWORKS))
    if unknown or args.rounds < 1:
        parser.error(f"no such network: {', '.join(sorted(unknown))}" if unknown else "--rounds: at least 1")
    # The workers are stopped on the way out, however that comes about.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    import torch

    about = {"cpu": processor(), "cores": os.cpu_count(), "torch": torch.__version__}
    about |= {"avx2": args.avx2, "clock": args.clock}
    print(f"{about['cpu']}, {about['cores']} cores; PyTorch {about['torch']}; the best of a kind is marked *")
    results = []
    for network in args.networks:
        for threads in args.threads:
            results += compare(args, network, threads)
            if args.json:
                args.json.write_text(json.dumps({**about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()

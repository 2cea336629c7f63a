"""The PyTorch side of the peer bench: trains one network in one mode and times its steps on demand.

`torch_step.py NETWORK MODE THREADS`; what it reads and prints is described in `fixnet_step.rs`. A mode is `eager` (the
default layout), or words joined by `+`: `channels_last`, `compile`, `bfloat16` (autocast of forward and loss).
"""

import json
import sys
import time

import torch
import torch.nn.functional as F

from networks import make

WARM_UP = 3


def memory(key):
    """A size of this process in kB, where the system tells it (Linux), else 0."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(key))
    except OSError:
        return 0


def main(network, mode, threads):
    torch.set_num_threads(int(threads))
    words = set(mode.split("+"))
    if unknown := words - {"eager", "channels_last", "compile", "bfloat16"}:
        sys.exit(f"no such mode: {'+'.join(sorted(unknown))}")
    base = memory("VmRSS:")
    net, images, target, optimizer_of = make(network)
    if "channels_last" in words:
        net, images = net.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    loss_of = F.l1_loss if target.is_floating_point() else F.cross_entropy
    parameters = sum(p.numel() for p in net.parameters())
    optimizer = optimizer_of(net)
    forward = torch.compile(net) if "compile" in words else net

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in words):
            loss = loss_of(forward(images), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    def times(steps):
        ms = []
        for _ in range(steps):
            start = time.perf_counter()
            step()
            ms.append(1e3 * (time.perf_counter() - start))
        return ms

    warm = times(WARM_UP)
    try:
        with open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")
    except OSError:
        pass
    isa = torch.backends.cpu.get_cpu_capability().lower()
    print(json.dumps({"isa": isa, "parameters": parameters, "base_kb": base, "ms": warm}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"ms": times(int(line)), "peak_kb": memory("VmHWM:")}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

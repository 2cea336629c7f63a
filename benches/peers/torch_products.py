"""Times PyTorch's own f32 convolutions, the three products of the convolutions of `benches/products.rs`, on one thread.

Run with the interpreter that `benches/peers/run` makes, `target/peers/venv/bin/python benches/peers/torch_products.py`.
Prints layer, product, the better of the default and the channels_last layout, and its billions of multiply-adds a second
(median of 15). ATEN_CPU_CAPABILITY=avx2 together with ONEDNN_MAX_CPU_ISA=AVX2 holds PyTorch to AVX2.
"""

import statistics
import time

import torch

# Name, input [N, C, H, W], output channels, stride; all 3x3 with a padding of 1.
LAYERS = [
    ("resnet20-16x32", (32, 16, 32, 32), 16, 1),
    ("resnet20-32x16", (32, 32, 16, 16), 32, 1),
    ("resnet20-64x8", (32, 64, 8, 8), 64, 1),
    ("resnet20-16to32", (32, 16, 32, 32), 32, 2),
    ("resnet18-64x32", (8, 64, 32, 32), 64, 1),
    ("resnet18-128x16", (8, 128, 16, 16), 128, 1),
    ("resnet18-256x8", (8, 256, 8, 8), 256, 1),
    ("resnet18-512x4", (8, 512, 4, 4), 512, 1),
]


def median(run):
    for _ in range(3):
        run()
    times = []
    for _ in range(15):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("layer,product,layout,gmacs")
    for name, shape, c_out, stride in LAYERS:
        best = {}
        for layout in [torch.contiguous_format, torch.channels_last]:
            x = torch.randn(shape).to(memory_format=layout)
            w = torch.randn(c_out, shape[1], 3, 3).to(memory_format=layout)
            g = torch.nn.functional.conv2d(x, w, stride=stride, padding=1)
            g = torch.randn_like(g)
            macs = g.numel() * shape[1] * 9

            def gradient(of_input):
                mask = [of_input, not of_input, False]
                torch.ops.aten.convolution_backward(
                    g, x, w, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], 1, mask
                )

            products = {
                "forward": lambda: torch.nn.functional.conv2d(x, w, stride=stride, padding=1),
                "input-grad": lambda: gradient(True),
                "weight-grad": lambda: gradient(False),
            }
            with torch.no_grad():
                for product, run in products.items():
                    rate = macs / median(run) / 1e9
                    best[product] = max(best.get(product, (0, "")), (rate, str(layout).split(".")[-1]))
        for product, (rate, layout) in best.items():
            print(f"{name},{product},{layout},{rate:.1f}", flush=True)


if __name__ == "__main__":
    main()

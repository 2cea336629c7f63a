"""Writes a network of torchvision or timm as an ONNX file, and compares what fixnet computes with it: export.py FOLDER MODEL [compare].

MODEL is mobilenet_v2 (torchvision's, a quarter as wide) or vit (timm's), for images of 32 x 32, with random weights of one seed. The file is
FOLDER/MODEL.onnx; that of FOLDER/MODEL-fixed.onnx keeps the statistics of its batch norms in training. With `compare` the folder has
samples.safetensors with images and the logits of fixnet for that one, and net.onnx with their normalization. What is not installed
is named, and the exit code is 1.
"""

import copy
import importlib
import json
import sys
from pathlib import Path

BOUND = 1e-4
MODELS = {"mobilenet_v2": ("torchvision", "onnx"), "vit": ("timm", "onnx")}


def network(model):
    import torch

    torch.manual_seed(1)
    if model == "mobilenet_v2":
        import torchvision

        net = torchvision.models.mobilenet_v2(num_classes=10, width_mult=0.25)
        # Statistics of no images would make the numbers of a deep network of random weights vanish.
        with torch.no_grad():
            for _ in range(20):
                net.train()(torch.rand(64, 3, 32, 32))
        return net.eval()
    import timm

    return timm.models.VisionTransformer(img_size=32, patch_size=4, embed_dim=32, depth=2, num_heads=2, num_classes=10).eval()


def export(net, path):
    import torch

    x = torch.rand(2, 3, 32, 32)
    # As a network that still trains: batch norms stay layers.
    mode = torch.onnx.TrainingMode.TRAINING
    axes = {"image": {0: "batch"}, "logits": {0: "batch"}}
    torch.onnx.export(
        net, x, path, dynamo=False, opset_version=17, input_names=["image"], output_names=["logits"], dynamic_axes=axes,
        training=mode, do_constant_folding=False,
    )  # fmt: skip


def main(folder, model, step=""):
    for package in MODELS[model]:
        try:
            importlib.import_module(package)
        except ImportError:
            print(f"torch: {model} skipped, no {package}")
            sys.exit(1)
    import torch
    from safetensors.torch import load_file

    net = network(model)
    folder = Path(folder)
    if step != "compare":
        # A copy, since the exporter runs the network in training.
        fixed = copy.deepcopy(net)
        for part in fixed.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = 0.0
        export(fixed, folder / f"{model}-fixed.onnx")
        return export(net, folder / f"{model}.onnx")
    import onnx

    samples = load_file(folder / "samples.safetensors")
    texts = {entry.key: entry.value for entry in onnx.load(folder / "net.onnx").metadata_props}
    mean, std = (torch.tensor(json.loads(texts[key])).reshape(-1, 1, 1) for key in ("mean", "std"))
    images = (samples["images"] - mean) / std
    with torch.no_grad():
        found = net.eval()(images)
    worst = (found - samples["logits"]).abs().max().item()
    print(f"torch {torch.__version__}: {model} from its ONNX file, {len(found)} images, largest difference {worst:.2g}")
    assert worst <= BOUND, f"{model}: logits differ by {worst}"


main(*sys.argv[1:])

"""Loads weights of fixnet into the same network of PyTorch and compares the logits: check.py FOLDER MODEL NAMES."""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[2] / "crates/export/tests/fixtures"))
from networks import Basic, Deep, Detector, LeNet, Mlp, ResNet, TwoStages, mobilenet, vit  # noqa: E402

BOUND = 1e-4
# Of networks that choose regions, whose corners are numbers of pixels.
REGIONS = 1e-3


def network(model, names):
    """The network and where it is from."""
    shortcut, classifier = {"torchvision": ("downsample", "fc"), "cifar": ("shortcut", "linear")}[names]
    if model.startswith("mobilenetv2"):
        try:
            import torchvision
        except ImportError:
            sys.exit(print(f"torch: {model} skipped, no torchvision"))
        return mobilenet(model, 1000 if "-imagenet" in model else 10), f"torchvision {torchvision.__version__}"
    if model.startswith(("vit", "deit")):
        try:
            import timm
        except ImportError:
            sys.exit(print(f"torch: {model} skipped, no timm"))
        return vit(model, *((1000, 64) if model.startswith("deit") else (10, 16))), f"timm {timm.__version__}"
    if model.startswith(("retinanet", "fasterrcnn")):
        try:
            import torchvision
        except ImportError:
            sys.exit(print(f"torch: {model} skipped, no torchvision"))
        return (Detector if model.startswith("retinanet") else TwoStages)(model), f"torchvision {torchvision.__version__}"
    if model.endswith("-imagenet") and names == "torchvision":
        try:
            import torchvision
        except ImportError:
            pass
        else:
            return getattr(torchvision.models, model.split("-")[0])(), f"torchvision {torchvision.__version__}"
    wide = [64, 128, 256, 512]
    projected = {"shortcut": shortcut, "classifier": classifier}
    match model:
        case "digits":
            net = LeNet(1, 64 * 7 * 7, classifier="fc")
        case "lenet":
            net = LeNet(3, 64 * 4 * 4, classifier="fc")
        case "mlp:40-20":
            net = Mlp(16 * 16 * 3, [40, 20], 10)
        case "resnet8" | "resnet20":
            net = ResNet(Basic, [(int(model[6:]) - 2) // 6] * 3, wide_of(16), 10, classifier=classifier, pooled=True)
        case "resnet20-b":
            net = ResNet(Basic, [3] * 3, wide_of(16), 10, **projected)
        case "resnet18":
            net = ResNet(Basic, [2] * 4, wide, 10, **projected)
        case "resnet18-imagenet":
            net = ResNet(Basic, [2] * 4, wide, 1000, large=True, **projected)
        case "resnet34-imagenet":
            net = ResNet(Basic, [3, 4, 6, 3], wide, 1000, large=True, **projected)
        case "resnet50-imagenet":
            net = ResNet(Deep, [3, 4, 6, 3], wide, 1000, large=True, **projected)
    return net, "networks.py"


def wide_of(first):
    return [first, 2 * first, 4 * first]


def compare_detections(net, images, samples):
    """The boxes, scores and classes of each image, which fixnet selected: at most 1e-3 of a pixel or of a score apart."""
    first, count = 0, 0
    for i, theirs in enumerate(net.detections(images)):
        number = int(samples["counts"][i])
        boxes, scores = samples["boxes"][first : first + number], samples["scores"][first : first + number]
        classes = samples["classes"][first : first + number]
        assert number == len(theirs["boxes"]), f"image {i}: {number} detections, torchvision has {len(theirs['boxes'])}"
        # Each has its partner, also where two scores are so near that their order differs.
        apart = torch.stack(
            [
                (boxes[:, None] - theirs["boxes"]).abs().amax(2),
                (scores[:, None] - theirs["scores"]).abs(),
                (classes[:, None] != theirs["labels"]).float(),
            ]
        ).amax(0)
        worst = max(apart.amin(0).max().item(), apart.amin(1).max().item()) if number else 0
        assert worst < 1e-3, f"image {i}: a detection without a partner within {worst}"
        first, count = first + number, count + number
    print(f"torch: {count} detections as torchvision selects them;", end=" ")


def main(folder, model, names):
    folder = Path(folder)
    net, source = network(model, names)
    weights = folder / "weights.safetensors"
    net.load_state_dict(load_file(weights), strict=True)
    samples = load_file(folder / "samples.safetensors")
    if model == "digits":
        # Pixels from 0 to 1, as the command writes them: [N, C, H, W].
        with safe_open(weights, "pt") as f:
            mean, std = (torch.tensor(json.loads(f.metadata()[key])).reshape(-1, 1, 1) for key in ("mean", "std"))
        images = (samples["images"] - mean) / std
    else:
        images = samples["images"].permute(0, 3, 1, 2)
    with torch.no_grad():
        net.eval()
        found = net.rows(images, samples["logits"]) if hasattr(net, "rows") else net(images)
    worst = (found - samples["logits"]).abs().max().item()
    if "boxes" in samples:
        compare_detections(net, images, samples)
    print(f"torch {torch.__version__}: {model}, names of {names}, {source}: loaded strictly, {len(found)} images,", end=" ")
    bound = REGIONS if hasattr(net, "rows") else BOUND
    print(f"largest difference {worst:.2g} (bound {bound:g})")
    assert worst <= bound, f"{model}: logits differ by {worst}"


main(*sys.argv[1:])

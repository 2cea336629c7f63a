"""Compares the logits that onnxruntime computes with those of fixnet: check.py FOLDER BOUND NAME."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort


def tensors(path):
    """The tensors of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, data = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__", None)
    types = {"F32": np.float32, "U64": np.uint64}
    return {
        name: np.frombuffer(data[slice(*t["data_offsets"])], types[t["dtype"]]).reshape(t["shape"])
        for name, t in header.items()
    }


def main(folder, bound, name):
    folder, bound = Path(folder), float(bound)
    model = folder / "net.onnx"
    onnx.checker.check_model(str(model), full_check=True)
    samples = tensors(folder / "samples.safetensors")
    images, logits = samples["images"], samples["logits"]
    files = json.loads((folder / "export.json").read_text())
    sizes = {kind: round(f["bytes"] / files["parameters_as_f32"], 3) for kind, f in files["files"].items()}
    top = np.sort(logits, axis=1)
    margin = top[:, -1] - top[:, -2]
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        # Without it, products of bytes saturate on x86-64 CPUs that lack VNNI.
        options.add_session_config_entry("session.x64quantprecision", "1")
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        batches = np.split(images, range(100, len(images), 100))
        found = np.concatenate([session.run(["output"], {"image": b})[0] for b in batches])
        worst = np.abs(found - logits).max()
        other = found.argmax(1) != logits.argmax(1)
        print(
            f"onnx: {name} {level}: {len(images)} images, largest difference {worst:.2g} (bound {bound:g}),",
            f"other top-1 {other.sum()}, size/f32 onnx {sizes['onnx']} packed {sizes['packed']}",
        )
        assert worst <= bound, f"{name}: logits differ by {worst}, more than {bound}"
        # A tie: logits that lie closer than both may move.
        assert (margin[other] <= 2 * bound).all(), f"{name}: other top-1 at margins {margin[other]}"


main(*sys.argv[1:])

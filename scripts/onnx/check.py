"""Compares the logits that runtimes compute with those of fixnet: check.py FOLDER FORM BOUND NAME [RUNTIME].

FORM is int4, int8 or float. Every runtime that is installed is asked, the others are named as skipped. With RUNTIME only those
whose names begin with it. What onnxruntime gives may differ from fixnet by BOUND, and the class by no more than that explains.
Other runtimes multiply weights by the factors that come after a product, so that their inputs may round to other levels: of
them only the classes are held, except where the two best logits of fixnet lie closer than twice BOUND.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
from runtimes import RUNTIMES

BATCH = 100


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


def computed(load, model, images):
    """The logits of all images and the version of the runtime."""
    outputs, last = [], None
    for start in range(0, len(images), BATCH):
        batch = np.ascontiguousarray(images[start : start + BATCH])
        # Some runtimes are made for one size of batches.
        if last is None or len(batch) != last:
            (run, version), last = load(model, batch), len(batch)
        outputs.append(run(batch).reshape(len(batch), -1))
    return np.concatenate(outputs), version


def main(folder, form, bound, name, only=""):
    folder, bound = Path(folder), float(bound)
    model = folder / "net.onnx"
    onnx.checker.check_model(str(model), full_check=True)
    opset = onnx.load(str(model)).opset_import[0].version
    samples = tensors(folder / "samples.safetensors")
    images = next(samples[name] for name in ("images", "sequences", "rows") if name in samples)
    logits = samples["logits"]
    files = json.loads((folder / "export.json").read_text())
    sizes = {kind: round(f["bytes"] / files["parameters_as_f32"], 3) for kind, f in files["files"].items()}
    print(f"onnx: {name}, {form}, opset {opset}: {len(images)} images, size/f32 onnx {sizes['onnx']} packed {sizes['packed']}")
    top = np.sort(logits, axis=1)
    margin = top[:, -1] - top[:, -2]
    for runtime, load, four_bits in RUNTIMES:
        if not runtime.startswith(only):
            continue
        try:
            found, version = computed(load, model, images)
        except ImportError as e:
            print(f"  {runtime}: skipped, it is not installed ({e})")
            continue
        except Exception as e:
            reason = str(e).strip().splitlines()[0][:120] if str(e).strip() else type(e).__name__
            print(f"  {runtime}: it refuses the file: {reason}")
            # Neither has onnxruntime before 1.19.
            old = runtime.startswith("onnxruntime") and __import__("onnxruntime").__version__ < "1.19"
            assert form == "int4" and (old or not four_bits), f"{name}: {runtime} refuses the file"
            continue
        difference = np.abs(found - logits).max(axis=1)
        other = found.argmax(1) != logits.argmax(1)
        print(
            f"  {runtime} {version}: same class {(~other).sum()} of {len(other)},",
            f"largest difference {difference.max():.2g} ({(difference > 1e-3).sum()} images above 0.001)",
        )
        if runtime.startswith("onnxruntime"):
            assert difference.max() <= bound, f"{name}: logits differ by {difference.max()}, more than {bound}"
        # A tie: logits that lie closer than both may move.
        assert (margin[other] <= 2 * bound).all(), f"{name}: {runtime}: other classes at margins {margin[other]}"


main(*sys.argv[1:])

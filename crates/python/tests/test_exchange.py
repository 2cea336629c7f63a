"""Files of other programs: ONNX, safetensors, PyTorch."""

import numpy as np
import pytest

import fixnet


@pytest.mark.parametrize("weights", ["int8", "float"])
def test_onnxruntime_gives_the_same_classes(run, weights, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = run.export_onnx(tmp_path / "net.onnx", weights)
    session = onnxruntime.InferenceSession(str(path))
    images = np.random.default_rng(0).integers(0, 256, (16, 28, 28), dtype=np.uint8)
    x = images[:, None].astype(np.float32) / 255.0
    (logits,) = session.run(None, {session.get_inputs()[0].name: x})
    found = run.predict_proba(images)
    assert (logits.argmax(axis=1) == found.argmax(axis=1)).mean() > 0.9


def test_safetensors_of_others_are_read_and_ours_by_them(run, tmp_path):
    path = run.export_safetensors(tmp_path / "w.safetensors")
    arrays = fixnet.load_file(path)
    assert arrays and all(array.dtype == np.float32 for array in arrays.values())
    fixnet.save_file(arrays, tmp_path / "again.safetensors", {"note": "a copy"})
    again = fixnet.load_file(tmp_path / "again.safetensors")
    assert again.keys() == arrays.keys()
    theirs = pytest.importorskip("safetensors.numpy")
    for name, array in theirs.load_file(path).items():
        np.testing.assert_array_equal(array, arrays[name])
    theirs.save_file({"a": np.arange(6, dtype=np.float32).reshape(2, 3)}, tmp_path / "t.safetensors")
    assert fixnet.load_file(tmp_path / "t.safetensors")["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_weights_begin_another_run(run, tmp_path):
    path = run.export_torch(tmp_path / "torch.safetensors")
    assert set(fixnet.load_file(path)) <= set(run.torch_state_dict())
    weights = run.export_safetensors(tmp_path / "w.safetensors")
    again = fixnet.train("mlp-digits", epochs=1, lr=1e-6, init=weights, out=tmp_path / "again")
    assert again.metrics[0]["train_loss"] < run.metrics[0]["train_loss"]


def test_packed_networks(run, tmp_path):
    path = run.export_packed(tmp_path / "net.fixnet")
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    np.testing.assert_array_equal(fixnet.Predictor(path).predict_proba(images), run.predict_proba(images))


def test_files_that_are_none(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"no such file at all")
    with pytest.raises(fixnet.CheckpointError):
        fixnet.load_file(tmp_path / "x.safetensors")
    with pytest.raises(fixnet.FixnetError):
        fixnet.load(tmp_path)
    with pytest.raises(OSError):
        fixnet.load_file(tmp_path / "missing.safetensors")

"""The user's own loop."""

import numpy as np
import pytest

import fixnet


def test_a_loop_with_a_loader_of_its_own():
    rng = np.random.default_rng(0)
    y = np.arange(256) % 3
    x = (rng.normal(size=(256, 4)) + 3.0 * np.eye(4)[y]).astype(np.float32)
    session = fixnet.Session("table", input_shape=(4,), classes=3, samples=256, epochs=3, batch_size=32)
    losses = []
    for _ in range(session.epochs):
        for first in range(0, 256, 32):
            losses.append(session.step(x[first : first + 32], y[first : first + 32]))
        assert session.epoch_is_over
        session.next_epoch()
    assert session.is_finished and session.steps == session.total_steps == 24
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    assert session.evaluate(x, y)["accuracy"] > 0.8
    assert session.evaluate("test") is None
    with pytest.raises(fixnet.ConfigError, match="step_on|batches of the caller"):
        fixnet.Session("table", input_shape=(4,), classes=3, samples=64).train_epoch()


def test_bytes_are_normalized_as_the_data_are():
    session = fixnet.Session("mlp-digits")
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28), dtype=np.uint8)
    other = fixnet.Session("mlp-digits")
    batch = next(iter(session.batches()))
    assert batch.x.dtype == np.float32 and batch.x.shape == (64, 28, 28, 1) and batch.y.shape == (64,)
    one = session.step(images, np.zeros(8))
    two = other.step(images[..., None], np.zeros(8, np.int64))
    assert one == two


def test_saving_and_going_on(tmp_path):
    one = fixnet.Session("mlp-digits", epochs=1)
    for number, batch in enumerate(one.batches()):
        if number == 5:
            one.save(tmp_path / "checkpoint.safetensors")
        one.step(batch)
    other = fixnet.Session.load(tmp_path / "checkpoint.safetensors")
    assert other.steps == 5
    other.train_epoch()
    assert other.digest == one.digest
    predictor = fixnet.Predictor(tmp_path / "checkpoint.safetensors")
    assert predictor.input_shape == (28, 28, 1)


def test_state_dicts_there_and_back():
    one, other = (fixnet.Session("mlp-digits", seed=seed) for seed in (1, 2))
    one.step(next(one.batches()))
    other.load_state_dict(one.state_dict())
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(array, other.state_dict()[name])
    third = fixnet.Session("mlp-digits", seed=3)
    weights = one.torch_state_dict()
    third.load_torch_state_dict(weights)
    for name, array in weights.items():
        if name.endswith("num_batches_tracked"):
            continue
        np.testing.assert_array_equal(array, third.torch_state_dict()[name], err_msg=name)
    with pytest.raises(fixnet.CheckpointError):
        one.load_state_dict({})


def test_steps_that_cannot_be_taken():
    session = fixnet.Session("mlp-digits")
    x = np.zeros((4, 28, 28, 1), np.float32)
    with pytest.raises(fixnet.ShapeError):
        session.step(x[:, :5], np.zeros(4))
    with pytest.raises(fixnet.FixnetError, match="one per sample"):
        fixnet.Session("mlp-digits").step(x, np.zeros(3))
    with pytest.raises(fixnet.FixnetError, match="0 to 9"):
        fixnet.Session("mlp-digits").step(x, np.full(4, 10))
    with pytest.raises(fixnet.DataError, match="finite"):
        fixnet.Session("mlp-digits").step(x * np.nan, np.zeros(4))

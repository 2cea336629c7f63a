"""Runs: the same bits as the command, data of all kinds, callbacks, interruption."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fixnet


def test_a_run_has_the_digest_of_the_command(command, tmp_path):
    """The library, the user's own loop and the command take the same steps."""
    done = command("train", "digits", "--epochs", 1, "--bits", "4/4/4", "--seed", 3, "--out", tmp_path / "a", "--json")
    assert done.returncode == 0, done.stderr
    expected = json.loads(done.stdout)
    run = fixnet.train("digits", epochs=1, bits="4/4/4", seed=3, out=tmp_path / "b")
    assert run.digest == expected["digest"]
    assert run.metrics[-1]["test_accuracy"] == expected["test_accuracy"]
    for name in ("metrics.jsonl", "digests.jsonl", "config.toml", "curves.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    session = fixnet.Session("digits", epochs=1, bits="4/4/4", seed=3)
    for x, y in session.batches():
        session.step(x, y)
    session.next_epoch()
    assert session.digest == expected["digest"]
    assert command("verify", tmp_path / "b", "--steps", 10).returncode == 0


def test_what_a_run_offers(run, tmp_path):
    assert run.is_finished and run.epoch == 1 and len(run.digest) == 64
    assert set(run.metrics[0]) >= {"epoch", "step", "train_loss", "test_accuracy"}
    assert run.frame.loc[1, "test_accuracy"] == run.metrics[0]["test_accuracy"]
    assert run.evaluate()["accuracy"] == pytest.approx(run.metrics[-1]["test_accuracy"])
    assert "<svg" in run._repr_html_() and "<svg" in run.plot()._repr_html_()
    page = run.report(tmp_path / "page.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    images = np.zeros((3, 28, 28), np.uint8)
    assert run.predict(images).shape == (3,)
    probabilities = run.predict_proba(images)
    assert probabilities.shape == (3, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    assert "mlp" in repr(fixnet.load(run.path))


def test_a_run_is_extended(tmp_path):
    run = fixnet.train("mlp-digits", epochs=1, out=tmp_path / "run")
    longer = fixnet.resume(run, epochs=2)
    assert longer.epoch == 2 and len(longer.metrics) == 2


def test_a_run_that_was_stopped_and_resumed_has_the_same_bits(tmp_path):
    whole = fixnet.train("mlp-digits", epochs=2, out=tmp_path / "whole")
    part = fixnet.train("mlp-digits", epochs=2, out=tmp_path / "part", callbacks=[lambda metrics: False])
    assert not part.is_finished and part.epoch == 1
    assert fixnet.resume(part).digest == whole.digest


def test_arrays_are_data_that_the_command_finds_too(blobs, command, tmp_path):
    x, y = blobs
    names = np.array(["red", "green", "blue"])[y]
    run = fixnet.train(data=(x, names), epochs=5, out=tmp_path / "run")
    assert run.metrics[-1]["test_accuracy"] > 0.9
    assert run.predictor().class_names == ["blue", "green", "red"]
    assert command("verify", run.path, "--steps", 5).returncode == 0


def test_numbers_make_a_regression(blobs, tmp_path):
    x, _ = blobs
    run = fixnet.train(data=(x, x[:, 0] * 2.0 + 0.5), epochs=5, out=tmp_path / "run")
    assert "test_r2" in run.metrics[-1]
    assert run.predict(x.astype(np.float32)).shape == (240,)


def test_images_and_a_folder(tmp_path):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    run = fixnet.train("digits", model="mlp:16", data=(images, np.arange(40) % 2), epochs=1, out=tmp_path / "run")
    assert run.predict(images).shape == (40,)
    assert run.predict(list(images[:2])).shape == (2,)


@pytest.mark.parametrize(
    "arguments, kind, word",
    [
        ({"recipe": "no-such"}, fixnet.ConfigError, "no-such"),
        ({"recipe": "digits", "bitss": "4/4/4"}, fixnet.ConfigError, "is it bits"),
        ({"recipe": "digits", "bits": "44"}, fixnet.ConfigError, "44"),
        ({"recipe": "digits", "epochs": 0}, fixnet.ConfigError, "at least 1"),
        ({"recipe": "digits", "epochs": object()}, fixnet.ConfigError, "epochs"),
        ({"recipe": "digits", "data": "folder:/no/such/folder"}, fixnet.FixnetError, "/no/such/folder"),
        ({}, fixnet.ConfigError, "expected a recipe"),
        ({"data": (np.zeros((4, 2)), np.zeros(3))}, fixnet.DataError, "one target per sample"),
        ({"data": 3}, fixnet.DataError, "found int"),
        ({"recipe": "digits", "checkpoint_every": "soon"}, fixnet.ConfigError, "500steps"),
    ],
)
def test_mistakes_are_named(arguments, kind, word, tmp_path):
    with pytest.raises(kind, match=word) as raised:
        fixnet.train(**arguments, out=tmp_path / "run")
    assert isinstance(raised.value, fixnet.FixnetError)


def test_an_earlier_run_is_not_overwritten(run):
    with pytest.raises(fixnet.RunError, match="earlier run"):
        fixnet.train("mlp-digits", epochs=1, out=run.path)


def test_an_exception_of_a_callback_stops_and_saves(tmp_path):
    def fail(metrics):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        fixnet.train("mlp-digits", epochs=3, out=tmp_path / "run", callbacks=[fail])
    run = fixnet.load(tmp_path / "run")
    assert run.epoch == 1 and not run.is_finished


def test_settings_without_effect_are_warned_of(tmp_path):
    with pytest.warns(fixnet.FixnetWarning, match="has no effect"):
        fixnet.train("mlp-digits", epochs=1, bits="32/32/32", gradient_rule="min-max", out=tmp_path / "run")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_saves_and_the_run_goes_on(tmp_path):
    program = """
import fixnet, signal, sys
# Where tests run in the background of a shell, SIGINT is ignored, and Python sets up nothing for it.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    fixnet.train("digits", epochs=50, out=sys.argv[1], progress=False)
except fixnet.Interrupted as stopped:
    print("saved", stopped.run.step, flush=True)
    sys.exit(7)
"""
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    digests = tmp_path / "run" / "digests.jsonl"
    for _ in range(600):
        if digests.exists() and digests.read_text().count("\n") >= 3:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 7 and output.startswith("saved")
    assert fixnet.load(tmp_path / "run").step == int(output.split()[1]) > 0


def test_early_stopping_counts_epochs_without_improvement():
    stopping = fixnet.EarlyStopping("test_loss", patience=2)
    assert [stopping({"test_loss": value}) for value in (3.0, 2.0, 2.5, 1.0, 1.0, 1.5)] == [True] * 5 + [False]
    with pytest.raises(fixnet.ConfigError, match="expected one of a, found test_loss"):
        stopping({"a": 1})

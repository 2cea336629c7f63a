"""What the tests share: a short run of digits, and the command of this environment."""

import subprocess
import sys

import numpy as np
import pytest

import fixnet


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A short run of the perceptron on digits."""
    out = tmp_path_factory.mktemp("runs") / "mlp"
    return fixnet.train("mlp-digits", epochs=1, out=out)


@pytest.fixture
def blobs():
    """Rows of three classes that a line tells apart."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = rng.normal(size=(240, 4)) + 4.0 * np.eye(4)[y]
    return x, y


@pytest.fixture
def command():
    """Runs the command ``fixnet`` in a process of its own."""

    def call(*arguments, **options):
        line = [sys.executable, "-m", "fixnet._command", *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, timeout=600, **options)

    return call

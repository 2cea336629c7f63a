"""Runs: training as the command does it, in a folder with checkpoints and logs."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence, Union

import numpy as np
import numpy.typing as npt

from . import _data, _fixnet
from ._progress import Progress
from .errors import ConfigError, DataError, Interrupted
from .nn import Network

PathLike = Union[str, "os.PathLike[str]"]
EpochCallback = Callable[[dict[str, Any]], Optional[bool]]

#: The archive in which the folder of a run keeps arrays that it was trained on.
_ARCHIVE = "data.npz"


def train(
    recipe: Optional[PathLike] = None,
    *,
    data: Optional[_data.Data] = None,
    test: float = 0.2,
    out: Optional[PathLike] = None,
    overwrite: bool = False,
    network: Optional[Network] = None,
    progress: Optional[bool] = None,
    callbacks: Sequence[EpochCallback] = (),
    checkpoint_every: str = "5min",
    diagnostics: Optional[int] = None,
    **keys: Any,
) -> "Run":
    """Trains a network and returns its run, which has the bits of the same run of the command.

    Args:
        recipe: A built-in recipe (`fixnet.recipes` lists them) or the path of a TOML file. Without one, settings are chosen that fit
            ``data``.
        data: What to learn from: a source such as ``"folder:PHOTOS"``, a folder of images, a CSV or NPZ file, or arrays ``(x, y)`` or
            ``(x_train, y_train, x_test, y_test)``. Images are [N, H, W] or [N, H, W, C], of bytes or of floats from 0 to 1; rows of a
            table [N, F]. Targets are classes (whole numbers or names) or, for a regression, numbers. The folder of the run keeps a copy
            of arrays.
        test: The share of arrays ``(x, y)`` that is set apart for the test.
        out: The folder of the run. By default a new one in ``runs``, named after recipe, bits and seed.
        overwrite: Whether an earlier run in ``out`` is removed.
        network: A network of layers from `fixnet.nn`, in place of the one that the recipe names.
        progress: Whether progress is shown; by default in terminals and notebooks.
        callbacks: Functions that are called with the metrics of each epoch. One that returns False stops the run, which is saved.
        checkpoint_every: Steps or time between checkpoints, besides those after each epoch: ``"500steps"``, ``"5min"``.
        diagnostics: Looks into the layers at the first step and every so many steps.
        **keys: Keys of the recipe, such as ``bits="4/4/4"``, ``epochs=3``, ``gradient_rule="min-max"``; `fixnet.recipe_keys` lists
            them. A key that several tables have is written ``table__key``.

    Raises:
        Interrupted: Ctrl-C; the step was finished and the run saved.
        FixnetError: A setting, the data or a file is not as it has to be.
    """
    keys, out = _with_data(keys, data, test, out, recipe)
    shown = Progress(progress)
    try:
        ended = _fixnet.train(
            None if recipe is None else os.fspath(recipe),
            keys,
            None if out is None else Path(out),
            overwrite,
            None if network is None else network.steps,
            shown.step,
            _each(callbacks),
            checkpoint_every,
            diagnostics,
        )
    finally:
        shown.close()
    return _ended(ended)


def resume(
    run: Union["Run", PathLike],
    *,
    epochs: Optional[int] = None,
    data: Optional[PathLike] = None,
    network: Optional[Network] = None,
    progress: Optional[bool] = None,
    callbacks: Sequence[EpochCallback] = (),
    checkpoint_every: str = "5min",
) -> "Run":
    """Goes on with a run that was stopped, or extends a finished one to more epochs.

    Args:
        run: The run or its folder.
        epochs: The new number of epochs of a finished run.
        data: The same data in another place.
        network: The network of layers with which the run was begun, if it was.
        progress, callbacks, checkpoint_every: As in `train`.
    """
    shown = Progress(progress)
    place = None if data is None else _data.source(data)
    try:
        ended = _fixnet.resume(
            _path(run),
            epochs,
            place,
            None if network is None else network.steps,
            shown.step,
            _each(callbacks),
            checkpoint_every,
        )
    finally:
        shown.close()
    return _ended(ended)


def load(path: PathLike) -> "Run":
    """Opens the folder of a run."""
    return Run(path)


def _path(run: Union["Run", PathLike]) -> Path:
    return run.path if isinstance(run, Run) else Path(run)


def _ended(ended: tuple[Path, bool, int, Optional[BaseException]]) -> "Run":
    path, _, step, error = ended
    run = Run(path)
    if error is None:
        return run
    if isinstance(error, KeyboardInterrupt):
        interrupted = Interrupted(f"stopped after step {step} and saved; go on with fixnet.resume({str(path)!r})")
        interrupted.run = run
        raise interrupted from None
    raise error


def _each(callbacks: Sequence[EpochCallback]) -> Optional[EpochCallback]:
    """Makes one callback of several; all are called, whatever one answers."""
    if not callbacks:
        return None

    def call(metrics: dict[str, Any]) -> bool:
        answers = [callback(dict(metrics)) for callback in callbacks]
        return not any(answer is False for answer in answers)

    return call


def _with_data(
    keys: Mapping[str, Any], data: Optional[_data.Data], test: float, out: Optional[PathLike], recipe: Optional[PathLike]
) -> tuple[dict[str, Any], Optional[PathLike]]:
    """Adds the source of the data to the keys; arrays are written to the folder of the run, which is made for them."""
    keys = dict(keys)
    if data is None:
        return keys, out
    if {"source", "data.source", "data__source"} & keys.keys():
        raise ConfigError("data: expected data or the key data.source, found both")
    place = _data.source(data)
    if place is None:
        arrays = _data.named(data, test)
        if out is None:
            out = _new_folder("arrays" if recipe is None else Path(recipe).stem, keys)
        place = _data.write(arrays, Path(out) / _ARCHIVE)
        if recipe is None:
            keys.setdefault("name", "arrays")
    keys["data.source"] = place
    return keys, out


def _new_folder(name: str, keys: Mapping[str, Any]) -> Path:
    bits = str(keys.get("bits", "4/4/4")).replace("/", "-")
    first = f"{name}-{bits}-s{keys.get('seed', 1)}"
    number = 1
    while True:
        path = Path("runs") / (first if number == 1 else f"{first}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        return path


class Svg:
    """A drawing that a notebook shows."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_html_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Svg({len(self.text)} characters)"


class Run:
    """A trained run in its folder.

    ``print(run)`` says how far it is; a notebook shows its curves.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self._read: dict[str, Any] = _fixnet.read_run(self.path)
        self._predictors: dict[bool, Predictor] = {}

    @staticmethod
    def load(path: PathLike) -> "Run":
        """Opens the folder of a run."""
        return Run(path)

    @property
    def config(self) -> str:
        """The recipe with all its settings, as TOML."""
        return str(self._read["config"])

    @property
    def step(self) -> int:
        """Steps that were taken."""
        return int(self._read["step"])

    @property
    def epoch(self) -> int:
        """Epochs that are over."""
        return int(self._read["epoch"])

    @property
    def is_finished(self) -> bool:
        """Whether the run has come to its end."""
        return bool(self._read["is_finished"])

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events of the log, those of steps and of epochs."""
        return list(self._read["events"])

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The metrics of each epoch, such as ``{"epoch": 1, "train_loss": 0.43, "test_accuracy": 0.93}``."""
        kept = []
        for event in self._read["events"]:
            if event.get("kind") == "epoch":
                kept.append({name: value for name, value in event.items() if name != "kind"})
        return kept

    @property
    def frame(self) -> Any:
        """The metrics as a frame of pandas, one row per epoch."""
        import pandas

        return pandas.DataFrame(self.metrics).set_index("epoch")

    @property
    def digest(self) -> str:
        """blake3 over all state, in hexadecimal: equal runs have equal digests."""
        return _fixnet.run_digest(self.path)

    def predictor(self, best: bool = False) -> "Predictor":
        """Returns the trained network, of the last checkpoint or of the best epoch."""
        if best not in self._predictors:
            self._predictors[best] = Predictor(self.path, best)
        return self._predictors[best]

    def predict(self, x: Any, best: bool = False) -> Any:
        """Answers about samples: see `Predictor.predict`."""
        return self.predictor(best).predict(x)

    def predict_proba(self, x: Any, best: bool = False) -> npt.NDArray[np.float64]:
        """Returns the probability of each class for each sample, [N, classes]."""
        return self.predictor(best).predict_proba(x)

    def evaluate(self, data: Optional[PathLike] = None, best: bool = False) -> dict[str, Any]:
        """Evaluates the network on its test data, or on those of another source."""
        return _fixnet.evaluate_run(self.path, None if data is None else _data.source(data), best)

    def report(self, path: Optional[PathLike] = None) -> Path:
        """Writes the page of ``fixnet report``, by default to the folder of the run; returns its path."""
        out = self.path / "report.html" if path is None else Path(path)
        _fixnet.write_report([self.path], out)
        return out

    def export_onnx(
        self, path: PathLike, weights: str = "int8", opset: Optional[int] = None, best: bool = False
    ) -> Path:
        """Writes an ONNX file with weights of ``"int4"``, ``"int8"`` or ``"float"``."""
        _fixnet.export(self.path, Path(path), f"onnx-{weights}", opset, best)
        return Path(path)

    def export_packed(self, path: PathLike, best: bool = False) -> Path:
        """Writes a packed network: weights in their bits, which `Predictor` and the command read."""
        _fixnet.export(self.path, Path(path), "packed", None, best)
        return Path(path)

    def export_safetensors(self, path: PathLike, best: bool = False) -> Path:
        """Writes weights and statistics to a safetensors file, by the names of fixnet: the key ``init`` takes it."""
        _fixnet.export(self.path, Path(path), "weights", None, best)
        return Path(path)

    def export_torch(self, path: PathLike, best: bool = False) -> Path:
        """Writes the weights to a safetensors file by the names and in the form of PyTorch."""
        _fixnet.export(self.path, Path(path), "torch", None, best)
        return Path(path)

    def torch_state_dict(self, best: bool = False) -> dict[str, npt.NDArray[Any]]:
        """Returns the weights by the names and in the form of PyTorch, as NumPy arrays."""
        return _fixnet.torch_state_dict(self.path, best)

    def plot(self) -> "Svg":
        """Returns the curves of loss and metric over the epochs, which a notebook shows."""
        return Svg(_fixnet.curves(self.path) if self.metrics else "<p>No epoch is over.</p>")

    def _repr_html_(self) -> str:
        state = "finished" if self.is_finished else f"stopped in epoch {self.epoch + 1}"
        return f"<div><b>{html.escape(self.path.name)}</b>, {state}, step {self.step}<br>{self.plot().text}</div>"

    def __repr__(self) -> str:
        state = "finished" if self.is_finished else "not finished"
        last = self.metrics[-1] if self.metrics else {}
        shown = ", ".join(f"{k} {v:.4g}" for k, v in last.items() if isinstance(v, float))
        return f"Run({str(self.path)!r}: {state}, step {self.step}{', ' + shown if shown else ''})"


class Predictor:
    """A trained network that answers about samples: of the folder of a run, a checkpoint or a packed network."""

    def __init__(self, path: PathLike, best: bool = False) -> None:
        self._inner = _fixnet.Predictor(Path(path), best)

    @classmethod
    def _of(cls, inner: _fixnet.Predictor) -> "Predictor":
        made = cls.__new__(cls)
        made._inner = inner
        return made

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of a sample."""
        return tuple(self._inner.input_shape)

    @property
    def class_names(self) -> Optional[list[str]]:
        """The names of the classes, where there are classes."""
        return self._inner.class_names

    def predict(self, x: Any) -> Any:
        """Answers about samples.

        ``x`` is an array of samples (images of bytes, or of floats from 0 to 1; rows; sequences), a list of images of any size, or paths
        of files and folders.

        Returns:
            For classes an array of their numbers [N], for a regression an array of numbers [N], for other tasks a list with an object for
            each sample: an image, or detections with ``name``, ``score`` and ``box``. For paths, a list of pairs of name and answer.
        """
        paths = _paths(x)
        if paths is not None:
            return self._inner.files(paths)
        table = self._inner.table(x)
        if table is None:
            return self._inner.answers(x)
        return table.argmax(axis=1) if self._inner.task == "classification" else table[:, 0]

    def predict_proba(self, x: Any) -> npt.NDArray[np.float64]:
        """Returns the probability of each class for each sample, [N, classes]."""
        table = self._inner.table(x) if self._inner.task == "classification" else None
        if table is None:
            raise DataError(f"predict_proba: expected a network for classes, found one for {self._inner.task}")
        return table

    def save(self, path: PathLike) -> None:
        """Writes the packed network, which `Predictor` reads."""
        self._inner.save_packed(Path(path))


def _paths(x: Any) -> Optional[list[Path]]:
    if isinstance(x, (str, os.PathLike)):
        return [Path(x)]
    if isinstance(x, (list, tuple)) and x and all(isinstance(one, (str, os.PathLike)) for one in x):
        return [Path(one) for one in x]
    return None


__all__ = ["Predictor", "Run", "load", "resume", "train"]

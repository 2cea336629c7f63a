"""Training in a loop of your own."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence, Union

import numpy.typing as npt

from . import _data, _fixnet
from .errors import ConfigError
from .nn import Network
from .run import PathLike, Predictor


class Session:
    """A run in memory whose loop is yours.

    ::

        session = fixnet.Session("digits", bits="4/4/4", epochs=2)
        for epoch in range(session.epochs):
            for x, y in session.batches():
                loss = session.step(x, y)
            session.next_epoch()
            print(session.evaluate())

    With the batches of `batches` the result has the bits of `fixnet.train`. A loader of your own works as well: say how many samples it has
    with ``input_shape``, ``classes`` and ``samples``.

    Args:
        recipe, data, test, network, **keys: As in `fixnet.train`.
        input_shape: The shape of a sample of data that only you have; no data are loaded then.
        classes: The number of classes of such data; leave it out for a regression.
        samples: The samples of an epoch of such data, from which the lengths of schedules follow.
    """

    def __init__(
        self,
        recipe: Optional[PathLike] = None,
        *,
        data: Optional[_data.Data] = None,
        test: float = 0.2,
        network: Optional[Network] = None,
        input_shape: Optional[Sequence[int]] = None,
        classes: Optional[int] = None,
        samples: Optional[int] = None,
        **keys: Any,
    ) -> None:
        keys = self._source(keys, data, test)
        outside = _outside(input_shape, classes, samples)
        name = None if recipe is None else os.fspath(recipe)
        steps = None if network is None else network.steps
        self._inner = _fixnet.Session(name, keys, steps, outside)

    def _source(self, keys: Mapping[str, Any], data: Optional[_data.Data], test: float) -> dict[str, Any]:
        keys = dict(keys)
        if data is None:
            return keys
        place = _data.source(data)
        if place is None:
            # Data beyond memory are read from the file as long as the session lives.
            folder = tempfile.mkdtemp(prefix="fixnet-")
            weakref.finalize(self, shutil.rmtree, folder, True)
            place = _data.write(_data.named(data, test), Path(folder) / "data.npz")
        keys["data.source"] = place
        return keys

    @classmethod
    def load(
        cls,
        path: PathLike,
        *,
        data: Optional[_data.Data] = None,
        test: float = 0.2,
        network: Optional[Network] = None,
        input_shape: Optional[Sequence[int]] = None,
        classes: Optional[int] = None,
        samples: Optional[int] = None,
        **keys: Any,
    ) -> "Session":
        """Goes on from a checkpoint that `save` or a run wrote, with the same data; other arguments are those of the constructor."""
        made = cls.__new__(cls)
        keys = made._source(keys, data, test)
        outside = _outside(input_shape, classes, samples)
        steps = None if network is None else network.steps
        made._inner = _fixnet.Session.load(Path(path), keys, steps, outside)
        return made

    def step(self, x: Any, y: Optional[npt.ArrayLike] = None) -> float:
        """Takes a step of the optimizer on a batch; returns its mean loss.

        ``x`` [N, ...] is what the network takes: floats are normalized already, images of bytes are normalized as the data are. ``y`` [N] are
        classes or numbers. A batch of `batches` may be given as it is, in place of both.
        """
        return self._inner.step(x, y)

    def batches(self) -> Iterator[Any]:
        """Returns the batches that are left of the running epoch, shuffled and varied as the recipe says: each is a pair (x, y)."""
        return self._inner.batches()

    def train_epoch(self) -> dict[str, Any]:
        """Takes the steps that are left of the running epoch; returns the means of its metrics. `next_epoch` goes on."""
        return self._inner.train_epoch()

    def next_epoch(self) -> None:
        """Goes on to the next epoch."""
        self._inner.next_epoch()

    def evaluate(self, x: Union[str, npt.ArrayLike] = "test", y: Optional[npt.ArrayLike] = None) -> Optional[dict[str, Any]]:
        """Evaluates on the part ``"test"``, ``"validation"`` or ``"train"`` of the data, or on samples of your own.

        Returns loss and metrics; None if there is no such part.
        """
        if y is None:
            if not isinstance(x, str):
                raise ConfigError("evaluate: expected the name of a part, or samples x and targets y")
            return self._inner.evaluate(x)
        return self._inner.evaluate_on(x, y)

    def predictor(self) -> Predictor:
        """Returns the network as it is now, which answers about samples."""
        return Predictor._of(self._inner.predictor())

    def save(self, path: PathLike) -> None:
        """Writes a checkpoint, with which `load`, `fixnet.Predictor` and the command go on."""
        self._inner.save(Path(path))

    def state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Returns all parameters and statistics by name."""
        return self._inner.state_dict()

    def load_state_dict(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Takes back what `state_dict` gave."""
        self._inner.load_state_dict(dict(arrays))

    def torch_state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the weights by the names and in the form of PyTorch."""
        return self._inner.torch_state_dict()

    def load_torch_state_dict(self, arrays: Mapping[str, Any]) -> list[str]:
        """Takes the weights of a ``state_dict`` of PyTorch, of tensors or arrays, for the same model.

        Returns the names of parameters that it lacks, which stay as they are.
        """
        with tempfile.TemporaryDirectory(prefix="fixnet-") as folder:
            path = Path(folder) / "weights.safetensors"
            _fixnet.save_file({name: _array(value) for name, value in arrays.items()}, path)
            return self._inner.load_torch(path)

    def export_onnx(self, path: PathLike, weights: str = "int8", opset: Optional[int] = None) -> Path:
        """Writes an ONNX file with weights of ``"int4"``, ``"int8"`` or ``"float"``."""
        self._inner.export(Path(path), f"onnx-{weights}", opset)
        return Path(path)

    def summary(self) -> str:
        """Returns a table of the operations with their sizes."""
        return self._inner.summary()

    @property
    def seen(self) -> dict[str, Any]:
        """The means of the metrics over the samples that the running epoch has seen."""
        return self._inner.seen

    @property
    def last_step(self) -> Optional[dict[str, Any]]:
        """The loss, the learning rate and the seconds of the last step, the seconds without what Python adds."""
        return self._inner.last_step

    @property
    def digest(self) -> str:
        """blake3 over all state, in hexadecimal."""
        return self._inner.digest

    @property
    def steps(self) -> int:
        """Steps that were taken."""
        return self._inner.steps

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, over which schedules are stretched."""
        return self._inner.total_steps

    @property
    def epoch(self) -> int:
        """Epochs that are over."""
        return self._inner.epoch

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""
        return self._inner.epochs

    @property
    def epoch_is_over(self) -> bool:
        """Whether the running epoch has no batch left."""
        return self._inner.epoch_is_over

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are over."""
        return self._inner.is_finished

    @property
    def config(self) -> str:
        """The recipe with all its settings, as TOML."""
        return self._inner.config

    @property
    def notes(self) -> list[str]:
        """What you should know of the data and the settings."""
        return self._inner.notes


def _array(value: Any) -> Any:
    """Returns the numbers of a tensor of PyTorch, or an array as it is."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _outside(
    shape: Optional[Sequence[int]], classes: Optional[int], samples: Optional[int]
) -> Optional[tuple[list[int], int, int]]:
    if shape is None and classes is None and samples is None:
        return None
    if shape is None or samples is None:
        raise ConfigError("expected input_shape and samples of data that only you have, found one of them")
    return list(shape), 1 if classes is None else classes, samples


class EarlyStopping:
    """Stops when a score is not better than the best for some epochs: a callback of `fixnet.train`, or called in a loop of your own.

    ::

        stopping = fixnet.EarlyStopping("test_accuracy", patience=3)
        run = fixnet.train("digits", epochs=50, callbacks=[stopping])

    Args:
        score: The name of a metric, such as ``"test_accuracy"`` or ``"validation_loss"``.
        patience: Epochs without improvement after which it stops.
        mode: ``"max"`` if higher is better, ``"min"`` if lower is; by default lower for losses and errors.
    """

    def __init__(self, score: str, patience: int = 3, mode: Optional[str] = None) -> None:
        if patience < 1:
            raise ConfigError(f"patience: expected at least 1, found {patience}")
        if mode not in (None, "max", "min"):
            raise ConfigError(f"mode: expected max or min, found {mode}")
        lower = any(word in score for word in ("loss", "mse", "mae"))
        self.score = score
        self.patience = patience
        self.sign = -1.0 if mode == "min" or (mode is None and lower) else 1.0
        self.best: Optional[float] = None
        self.waited = 0

    def __call__(self, metrics: Mapping[str, Any]) -> bool:
        """Returns whether to go on after an epoch with these metrics."""
        if self.score not in metrics:
            raise ConfigError(f"score: expected one of {', '.join(metrics)}, found {self.score}")
        value = float(metrics[self.score])
        if self.best is None or self.sign * value > self.sign * self.best:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited < self.patience


__all__ = ["EarlyStopping", "Session"]

"""Estimators of scikit-learn: perceptrons for tables, trained in low-bit integers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Optional, Sequence

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .run import Predictor
from .session import Session


class _Estimator(BaseEstimator):
    """What both estimators share: standardized columns, a session in memory, a packed network that pickles."""

    def __init__(
        self,
        hidden: Sequence[int] = (64, 64),
        *,
        bits: str = "8/8/8",
        epochs: int = 50,
        batch_size: int = 32,
        lr: float = 0.01,
        optimizer: str = "adam",
        gradient_rule: Any = "lbt",
        settings: Optional[dict[str, Any]] = None,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.bits = bits
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimizer = optimizer
        self.gradient_rule = gradient_rule
        self.settings = settings
        self.random_state = random_state

    def _fit(self, recipe: str, x: Any, y: Any) -> None:
        self._mean, self._scale = _moments(x)
        rows = self._standardized(x)
        # Without a sample to spare, the parts of the data are the same.
        data = {"x_train": rows, "y_train": y, "x_test": rows[:1], "y_test": y[:1]}
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = 1 if seed is None else int(np.random.default_rng(seed.randint(2**31)).integers(2**31))
        session = Session(
            recipe,
            data=data,
            model=f"mlp:{'-'.join(map(str, self.hidden))}",
            bits=self.bits,
            epochs=int(self.epochs),
            batch_size=_batch_size(len(rows), int(self.batch_size)),
            optimizer=self.optimizer,
            lr=float(self.lr),
            gradient_rule=self.gradient_rule,
            seed=int(seed),
            **(self.settings or {}),
        )
        for _ in range(session.epochs):
            session.train_epoch()
            session.next_epoch()
        self.n_iter_ = session.epochs
        self.digest_ = session.digest
        self._keep(session.predictor())

    def _keep(self, predictor: Predictor) -> None:
        with tempfile.TemporaryDirectory(prefix="fixnet-") as folder:
            path = Path(folder) / "network.fixnet"
            predictor.save(path)
            self._network: bytes = path.read_bytes()
        self._loaded: Optional[Predictor] = predictor

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_loaded", None)
        return state

    def _predictor(self) -> Predictor:
        loaded = getattr(self, "_loaded", None)
        if loaded is None:
            with tempfile.TemporaryDirectory(prefix="fixnet-") as folder:
                path = Path(folder) / "network.fixnet"
                path.write_bytes(self._network)
                loaded = self._loaded = Predictor(path)
        return loaded

    def _standardized(self, x: Any) -> Any:
        limit = float(np.finfo(np.float32).max) / 4
        return np.clip((x - self._mean) / self._scale, -limit, limit).astype(np.float32)

    def _checked(self, x: Any) -> Any:
        check_is_fitted(self)
        return self._standardized(validate_data(self, x, dtype=np.float64, reset=False))


def _moments(x: Any) -> tuple[Any, Any]:
    """Mean and deviation of each column; a deviation of 1 where all numbers are equal."""
    mean = x.mean(axis=0)
    scale = x.std(axis=0)
    return mean, np.where(scale > 10 * np.finfo(np.float64).eps * np.abs(mean), scale, 1.0)


def _batch_size(samples: int, size: int) -> int:
    """The largest size of batches up to this one after which no batch of one sample is left, which a batch norm cannot take."""
    fitting = [n for n in range(2, min(size, samples) + 1) if samples % n != 1]
    return fitting[-1] if fitting else max(1, min(size, samples))


class FixnetClassifier(ClassifierMixin, _Estimator):
    """A classifier of the rows of a table: a perceptron, trained in low-bit integers.

    Args:
        hidden: The widths of the hidden layers.
        bits: Bits of weights, activations and gradients; ``"32/32/32"`` is floats.
        epochs, batch_size, lr, optimizer, gradient_rule: As in recipes.
        settings: Further keys of the recipe by name.
        random_state: The seed: equal seeds give equal bits.
    """

    def fit(self, X: Any, y: Any) -> "FixnetClassifier":
        """Trains on rows [N, F] and their classes [N]."""
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y: expected at least two classes, found 1 class: {self.classes_[0]!r}")
        self._fit("table", X, numbers)
        return self

    def predict_proba(self, X: Any) -> Any:
        """Returns the probability of each class, [N, classes]."""
        return self._predictor_of(X)

    def _predictor_of(self, X: Any) -> Any:
        rows = self._checked(X)
        return self._predictor().predict_proba(rows)

    def predict(self, X: Any) -> Any:
        """Returns the most probable class of each row."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]


class FixnetRegressor(RegressorMixin, _Estimator):
    """A regression of the rows of a table: a perceptron, trained in low-bit integers.

    Arguments are those of `FixnetClassifier`.
    """

    def fit(self, X: Any, y: Any) -> "FixnetRegressor":
        """Trains on rows [N, F] and their numbers [N]."""
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        # In units in which floats of 32 bits have digits enough.
        self._target_mean = float(y.mean())
        self._target_scale = float(y.std()) or 1.0
        self._fit("table-regression", X, (y - self._target_mean) / self._target_scale)
        return self

    def predict(self, X: Any) -> Any:
        """Returns a number for each row."""
        rows = self._checked(X)
        return self._predictor().predict(rows) * self._target_scale + self._target_mean


__all__ = ["FixnetClassifier", "FixnetRegressor"]

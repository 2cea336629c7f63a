"""Data of the caller's as a source that a recipe can name.

Arrays are written to a NumPy archive, so that the run can be resumed, verified and reported by the command too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping, Optional, Union

import numpy as np
import numpy.typing as npt

from .errors import DataError

Data = Union[str, "os.PathLike[str]", "tuple[Any, ...]", "list[Any]", Mapping[str, Any]]


def source(data: Data) -> Optional[str]:
    """Returns the source of a text or a path; None for arrays."""
    if isinstance(data, str):
        return data
    if isinstance(data, os.PathLike):
        path = Path(data)
        kinds = {".csv": "csv", ".npz": "npz"}
        kind = "folder" if path.is_dir() else kinds.get(path.suffix.lower())
        if kind is None:
            raise DataError(f"data: expected a folder of images, a .csv or an .npz file, found {path}")
        return f"{kind}:{path}"
    return None


def named(data: Data, test: float = 0.2) -> dict[str, npt.NDArray[Any]]:
    """Returns the arrays x_train, y_train, x_test and y_test of data that are no source.

    Where there are no test samples, every k-th sample of each class is set apart for the test, a share of ``test`` of all.
    """
    if isinstance(data, Mapping):
        arrays = {str(name): np.asarray(value) for name, value in data.items()}
        if {"x", "y"} <= arrays.keys():
            arrays.update(_apart(arrays.pop("x"), arrays.pop("y"), test))
    elif isinstance(data, (tuple, list)) and len(data) == 2:
        arrays = _apart(np.asarray(data[0]), np.asarray(data[1]), test)
    elif isinstance(data, (tuple, list)) and len(data) == 4:
        names = ("x_train", "y_train", "x_test", "y_test")
        arrays = {name: np.asarray(value) for name, value in zip(names, data)}
    else:
        raise DataError(
            "data: expected a source such as 'folder:PHOTOS', a path, (x, y), (x_train, y_train, x_test, y_test), or a mapping"
            f" with these names, found {type(data).__name__}"
        )
    missing = {"x_train", "y_train", "x_test", "y_test"} - arrays.keys()
    if missing:
        raise DataError(f"data: expected x_train, y_train, x_test and y_test, found no {', '.join(sorted(missing))}")
    return _numbered(arrays)


def _numbered(arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Gives classes that are texts or truth values numbers, in the order of their names."""
    train, test = arrays["y_train"], arrays["y_test"]
    if train.dtype.kind == "b" and test.dtype.kind == "b":
        return {**arrays, "y_train": train.astype(np.int64), "y_test": test.astype(np.int64)}
    if train.dtype.kind not in "OUS":
        return arrays
    if any(not isinstance(value, (str, bytes)) for value in train.ravel()):
        raise DataError("y_train: expected numbers or names of classes, found other objects")
    names = np.unique(train.astype(str))
    known = np.isin(test.astype(str), names)
    if not known.all():
        raise DataError(f"y_test: expected classes of y_train, found {test[~known][0]!r}")
    numbers = {which: np.searchsorted(names, arrays[which].astype(str)) for which in ("y_train", "y_test")}
    return {**arrays, **numbers, "class_names": names}


def _apart(x: npt.NDArray[Any], y: npt.NDArray[Any], share: float) -> dict[str, npt.NDArray[Any]]:
    if not 0.0 < share < 1.0:
        raise DataError(f"test: expected a share above 0 and below 1, found {share}")
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise DataError(f"data: expected one target per sample, found arrays of shapes {x.shape} and {y.shape}")
    labels = y.ravel()
    order = np.arange(len(y)) if labels.dtype.kind == "f" else np.argsort(labels, kind="stable")
    # At these places of the order by class the count of test samples grows by one.
    places = np.floor((np.arange(len(order)) + 1) * share) > np.floor(np.arange(len(order)) * share)
    held = np.zeros(len(order), dtype=bool)
    held[order[places]] = True
    if held.all() or not held.any():
        raise DataError(f"data: expected samples to learn from and samples to test by, found {len(y)} in all")
    return {"x_train": x[~held], "y_train": y[~held], "x_test": x[held], "y_test": y[held]}


def write(arrays: Mapping[str, npt.NDArray[Any]], path: Path) -> str:
    """Writes an archive; returns its source."""
    ready = {}
    for name, array in arrays.items():
        if array.dtype == object:
            raise DataError(f"{name}: expected an array of numbers, found one of objects")
        kept = array.dtype.kind != "f" or array.dtype in (np.float32, np.float64)
        ready[name] = np.ascontiguousarray(array if kept else array.astype(np.float32))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **ready)  # type: ignore[arg-type]
    return f"npz:{path}"

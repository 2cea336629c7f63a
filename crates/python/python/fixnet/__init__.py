"""Training of neural networks on CPUs in real low-bit integers, the same bits on every machine.

::

    import fixnet

    run = fixnet.train("digits", bits="4/4/4", epochs=10)
    print(run.metrics[-1]["test_accuracy"], run.digest)

There are three levels:

- `train` gives a `Run` in a folder, as the command ``fixnet train`` does, with the same bits;
- `Session` takes steps in a loop of your own;
- `nn`, `quantize`, `quantize_gradient` and `matmul_codes` are the parts, and `GradientRule` is a rule of your own.

`FixnetClassifier` and `FixnetRegressor` are estimators of scikit-learn. Errors are `FixnetError` and its subclasses.
"""

from __future__ import annotations

import os as _os
from typing import TYPE_CHECKING, Any

from . import _fixnet, errors, nn
from ._fixnet import (
    __version__,
    get_isa,
    get_num_threads,
    instruction_sets,
    load_file,
    recipe_keys,
    recipe_toml,
    recipes,
    save_file,
    set_isa,
    set_num_threads,
)
from .errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ExportError,
    FileError,
    FixnetError,
    FixnetWarning,
    Interrupted,
    InternalError,
    NotFiniteError,
    RunError,
    ShapeError,
)
from .quantization import (
    GradientQuantizer,
    Quantized,
    QuantizedGradient,
    kernels,
    matmul_codes,
    quantize,
    quantize_gradient,
)
from .rules import GradientRule, register_gradient_rule
from .run import Predictor, Run, load, resume, train
from .session import EarlyStopping, Session

if TYPE_CHECKING:
    from .estimators import FixnetClassifier, FixnetRegressor

if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(
        before=_fixnet.before_fork,
        after_in_parent=lambda: _fixnet.after_fork(False),
        after_in_child=lambda: _fixnet.after_fork(True),
    )


def __getattr__(name: str) -> Any:
    # scikit-learn is needed by the estimators alone, and takes long to import.
    if name in ("FixnetClassifier", "FixnetRegressor"):
        from . import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module 'fixnet' has no attribute {name!r}")


__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "EarlyStopping",
    "ExportError",
    "FileError",
    "FixnetClassifier",
    "FixnetError",
    "FixnetRegressor",
    "FixnetWarning",
    "GradientQuantizer",
    "GradientRule",
    "Interrupted",
    "InternalError",
    "NotFiniteError",
    "Predictor",
    "Quantized",
    "QuantizedGradient",
    "Run",
    "RunError",
    "Session",
    "ShapeError",
    "__version__",
    "errors",
    "get_isa",
    "get_num_threads",
    "instruction_sets",
    "kernels",
    "load",
    "load_file",
    "matmul_codes",
    "nn",
    "quantize",
    "quantize_gradient",
    "recipe_keys",
    "recipe_toml",
    "recipes",
    "register_gradient_rule",
    "resume",
    "save_file",
    "set_isa",
    "set_num_threads",
    "train",
]

"""Exceptions and warnings of fixnet.

Each class is a `FixnetError` and an exception of Python of its kind, so that both ``except fixnet.FixnetError`` and
``except ValueError`` catch it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from .run import Run

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ExportError",
    "FileError",
    "FixnetError",
    "FixnetWarning",
    "Interrupted",
    "InternalError",
    "NotFiniteError",
    "RunError",
    "ShapeError",
]


class FixnetError(Exception):
    """An error of fixnet."""


class ConfigError(FixnetError, ValueError):
    """A setting, a recipe or an argument is unknown or out of its range."""


class DataError(FixnetError, ValueError):
    """Samples or targets are not as they have to be."""


class ShapeError(FixnetError, ValueError):
    """An array or a value has another shape than expected."""


class NotFiniteError(FixnetError, ArithmeticError):
    """A loss, a gradient or an output is infinite or not a number."""


class CheckpointError(FixnetError, ValueError):
    """A checkpoint is damaged, or does not fit."""


class RunError(FixnetError, RuntimeError):
    """The folder of a run is not as it has to be."""


class ExportError(FixnetError, ValueError):
    """A network cannot be written to, or read from, a file of another form."""


class FileError(FixnetError, OSError):
    """A file cannot be read or written."""


class InternalError(FixnetError, RuntimeError):
    """A fault in fixnet itself: please report it."""


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C, after a whole step, and saved.

    ``run`` is the run, with which ``fixnet.resume(error.run)`` goes on.
    """

    run: Optional["Run"] = None


class FixnetWarning(UserWarning):
    """Something that the user should know of a run."""

"""Quantizers and exact integer products on NumPy arrays."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Union

import numpy as np
import numpy.typing as npt

from . import _fixnet
from .rules import GradientRule


class Quantized(NamedTuple):
    """Levels with the real value of one level.

    The levels are bytes: ``uint8`` for unsigned ones, ``int8`` for all others.
    """

    levels: npt.NDArray[Any]
    scale: float

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Returns ``levels * scale`` in floats of 32 bits, one rounding each."""
        return self.levels.astype(np.float32) * np.float32(self.scale)


class QuantizedGradient(NamedTuple):
    """The levels of a gradient, the real value of one level, and the clipping factor."""

    levels: npt.NDArray[Any]
    scale: float
    gamma: float

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Returns ``levels * scale`` in floats of 32 bits, one rounding each."""
        return self.levels.astype(np.float32) * np.float32(self.scale)


def quantize(
    x: npt.ArrayLike, bits: int = 4, *, scale: Optional[float] = None, levels: str = "symmetric"
) -> Quantized:
    """Quantizes to the nearest level, ties to even.

    The level of x is ``x / scale`` rounded, at least the lowest and at most the highest level.

    Args:
        x: Finite numbers; computed in floats of 32 bits.
        bits: 1 to 8.
        scale: The real value of one level; by default the one at which the largest magnitude is the highest level.
        levels: ``"symmetric"``, -(2^(bits-1) - 1) to 2^(bits-1) - 1, with one bit -1 and 1; ``"unsigned"``, 0 to 2^bits - 1;
            ``"twos_complement"``, -2^(bits-1) to 2^(bits-1) - 1.
    """
    return Quantized(*_fixnet.quantize(x, bits, scale, levels))


def quantize_gradient(
    g: npt.ArrayLike,
    bits: int = 4,
    rule: Union[str, GradientRule] = "lbt",
    *,
    rounding: str = "stochastic",
    seed: int = 0,
) -> QuantizedGradient:
    """Quantizes a gradient as a layer does in training, by a rule that has seen no other gradient.

    The interval ends at gamma times the largest magnitude. ``rule`` is a gradient rule of recipes (``"lbt"``, ``"min-max"``,
    ``"fixed:0.8"``, ``"mse"``, ``"dsgc"``) or one of your own. The noise of stochastic rounding is a function of ``seed`` and the place of
    an element.
    """
    return QuantizedGradient(*_fixnet.quantize_gradient(g, bits, rule, rounding, seed))


class GradientQuantizer:
    """Quantizes the gradients of one layer, step after step, while its rule moves the interval."""

    def __init__(
        self, bits: int = 4, rule: Union[str, GradientRule] = "lbt", *, rounding: str = "stochastic", seed: int = 0
    ) -> None:
        self._inner = _fixnet.GradientState(bits, rule, rounding, seed)

    def __call__(self, g: npt.ArrayLike) -> Quantized:
        """Quantizes the gradient of the next step."""
        return Quantized(*self._inner.quantize(g))

    @property
    def gamma(self) -> float:
        """The clipping factor of the next step, above 0 and at most 1."""
        return self._inner.gamma

    def state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the numbers that the next step depends on."""
        return self._inner.state_dict()


def matmul_codes(
    a: npt.ArrayLike, b: npt.ArrayLike, *, bits: Union[int, tuple[int, int]] = 8
) -> npt.NDArray[np.int32]:
    """Returns the exact product of arrays of levels, [.., M, K] by [.., K, N], in integers of 32 bits.

    Args:
        a, b: Levels, ``int8`` or ``uint8``. The axes before the matrices are equal.
        bits: Bits of the levels, of both operands or of each: with fewer bits faster kernels are exact.

    Raises:
        DataError: A level is beyond its bits, or an array has another type.
        ShapeError: The shapes do not fit.
        ConfigError: A sum of so many products could exceed 32 bits.
    """
    a_bits, b_bits = bits if isinstance(bits, tuple) else (bits, bits)
    return _fixnet.matmul_codes(a, b, a_bits, b_bits)


def kernels() -> list[dict[str, Any]]:
    """Returns the kernels of integer products that this machine can run, the best first.

    Each has ``name``, ``isa`` (its instruction set), ``allowed`` (by the instruction set in force), ``used_for_4_bits`` and
    ``used_for_8_bits``.
    """
    return _fixnet.kernels()


__all__ = [
    "GradientQuantizer",
    "Quantized",
    "QuantizedGradient",
    "kernels",
    "matmul_codes",
    "quantize",
    "quantize_gradient",
]

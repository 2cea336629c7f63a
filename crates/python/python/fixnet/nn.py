"""Layers and networks that are put together in Python.

A layer is a description; `Network` builds it, in the precision that is asked for. Called with a value, a layer gives the value that it
computes of it, so that a network may be any function::

    from fixnet import nn

    def forward(x):
        h = nn.ReLU()(nn.BatchNorm2d(16)(nn.Conv2d(1, 16, 3, padding=1)(x)))
        h = h + nn.Conv2d(16, 16, 3, padding=1)(h)
        return nn.Linear(16, 10, bits="32/32/32")(nn.GlobalAvgPool2d()(h))

    net = nn.Network(forward, (28, 28, 1), bits="4/4/4")

Images are [N, H, W, C]. Names and arguments are those of PyTorch where both have the layer.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Optional, Sequence, Union

import numpy.typing as npt

from . import _fixnet
from .errors import ConfigError

Setting = Union[float, str]
Step = tuple[str, str, dict[str, Setting], list[int]]


class Value:
    """A value of a network that is being put together."""

    def __init__(self, network: "_Steps", number: int) -> None:
        self._network = network
        self._number = number

    def _with(self, kind: str, other: "Value") -> "Value":
        if not isinstance(other, Value):
            raise TypeError(f"{kind}: expected a value of the network, found {type(other).__name__}")
        return self._network.add(kind, "", {}, [self, other])

    def __add__(self, other: "Value") -> "Value":
        return self._with("add", other)

    def __sub__(self, other: "Value") -> "Value":
        return self._with("sub", other)

    def __mul__(self, other: "Value") -> "Value":
        return self._with("mul", other)

    def __truediv__(self, other: "Value") -> "Value":
        return self._with("div", other)

    def __matmul__(self, other: "Value") -> "Value":
        return matmul(self, other)


class _Steps:
    """The steps of a network, in the order in which they are computed."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def add(self, kind: str, name: str, settings: Mapping[str, Setting], inputs: Sequence[Value]) -> Value:
        for value in inputs:
            if value._network is not self:
                raise ConfigError(f"{kind}: expected values of one network, found one of another")
        name = name or f"{kind.lower()}{len(self.steps)}"
        self.steps.append((kind, name, dict(settings), [value._number for value in inputs]))
        return Value(self, len(self.steps))


class Layer:
    """A layer with its settings. ``bits`` gives it a precision of its own, ``name`` the name of its parameters."""

    kind = ""

    def __init__(self, name: str = "", bits: Optional[str] = None, **settings: Setting) -> None:
        self.name = name
        self.settings = settings if bits is None else {**settings, "bits": bits}

    def __call__(self, x: Value) -> Value:
        return x._network.add(self.kind, self.name, self.settings, [x])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.settings.items())})"


class Conv2d(Layer):
    """A convolution, [N, H, W, I] to [N, H', W', O], without a bias unless asked for."""

    kind = "Conv2d"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        bits: Optional[str] = None,
        name: str = "",
    ) -> None:
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size, "stride": stride}
        more = {"padding": padding, "dilation": dilation, "groups": groups, "bias": float(bias)}
        super().__init__(name, bits, **sizes, **more)


class Linear(Layer):
    """A fully connected layer, [.., I] to [.., O]."""

    kind = "Linear"

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, bits: Optional[str] = None, name: str = ""
    ) -> None:
        super().__init__(name, bits, in_features=in_features, out_features=out_features, bias=float(bias))


class BatchNorm2d(Layer):
    """A normalization over the batch, of each channel."""

    kind = "BatchNorm2d"

    def __init__(self, num_features: int, *, eps: float = 1e-5, momentum: float = 0.1, name: str = "") -> None:
        super().__init__(name, None, num_features=num_features, eps=eps, momentum=momentum)


class LayerNorm(Layer):
    """A normalization over the last axis."""

    kind = "LayerNorm"

    def __init__(self, normalized_shape: int, *, eps: float = 1e-5, name: str = "") -> None:
        super().__init__(name, None, normalized_shape=normalized_shape, eps=eps)


class ReLU(Layer):
    """The larger of x and 0."""

    kind = "ReLU"


class Clamp(Layer):
    """x, but at least ``low`` and at most ``high``."""

    kind = "Clamp"

    def __init__(self, low: float, high: float) -> None:
        super().__init__("", None, low=low, high=high)


class LeakyReLU(Layer):
    """x where it is positive, and else ``slope`` times x."""

    kind = "LeakyReLU"

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__("", None, slope=slope)


class GELU(Layer):
    """x times the normal distribution function of x."""

    kind = "GELU"


class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    kind = "Sigmoid"


class Tanh(Layer):
    """The hyperbolic tangent."""

    kind = "Tanh"


class Softmax(Layer):
    """Shares of exp(x) along an axis; that of the samples is 0."""

    kind = "Softmax"

    def __init__(self, axis: int) -> None:
        super().__init__("", None, axis=axis)


class Dropout(Layer):
    """Sets elements to 0 in training, with the probability ``p``."""

    kind = "Dropout"

    def __init__(self, p: float = 0.5, *, name: str = "") -> None:
        super().__init__(name, None, p=p)


class Flatten(Layer):
    """[N, ...] to [N, F]."""

    kind = "Flatten"


class GlobalAvgPool2d(Layer):
    """The mean over all pixels, [N, H, W, C] to [N, C]."""

    kind = "GlobalAvgPool2d"


class MaxPool2d(Layer):
    """The largest number of each window."""

    kind = "MaxPool2d"

    def __init__(self, kernel_size: int, stride: Optional[int] = None, padding: int = 0) -> None:
        stride = kernel_size if stride is None else stride
        super().__init__("", None, kernel_size=kernel_size, stride=stride, padding=padding)


class AvgPool2d(Layer):
    """The mean of each window."""

    kind = "AvgPool2d"

    def __init__(self, kernel_size: int, stride: Optional[int] = None) -> None:
        super().__init__("", None, kernel_size=kernel_size, stride=kernel_size if stride is None else stride)


class PixelShuffle(Layer):
    """[N, H, W, C · factor^2] to [N, H · factor, W · factor, C]."""

    kind = "PixelShuffle"

    def __init__(self, factor: int) -> None:
        super().__init__("", None, factor=factor)


class BasicBlock(Layer):
    """The block of small residual networks: two convolutions of 3 x 3 with normalizations, and a shortcut."""

    kind = "BasicBlock"

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, bits: Optional[str] = None, name: str = ""
    ) -> None:
        super().__init__(name, bits, in_channels=in_channels, out_channels=out_channels, stride=stride)


class TransformerBlock(Layer):
    """A block of a vision transformer (pre-norm), [N, T, D] to [N, T, D]."""

    kind = "TransformerBlock"

    def __init__(
        self, width: int, heads: int, hidden: Optional[int] = None, *, bits: Optional[str] = None, name: str = ""
    ) -> None:
        super().__init__(name, bits, width=width, heads=heads, hidden=4 * width if hidden is None else hidden)


class Sequential:
    """Layers one after the other."""

    def __init__(self, *layers: Union[Layer, "Sequential", "Residual"]) -> None:
        self.layers = layers

    def __call__(self, x: Value) -> Value:
        for layer in self.layers:
            x = layer(x)
        return x


class Residual:
    """x plus what layers make of it."""

    def __init__(self, *layers: Union[Layer, Sequential, "Residual"]) -> None:
        self.body = Sequential(*layers)

    def __call__(self, x: Value) -> Value:
        return self.body(x) + x


def matmul(a: Value, b: Value, *, transposed: bool = False, bits: Optional[str] = None, name: str = "") -> Value:
    """Returns the products of pairs of matrices, quantized like a layer; with ``transposed`` the second ones are [.., N, K]."""
    settings: dict[str, Setting] = {"transposed": float(transposed)}
    if bits is not None:
        settings["bits"] = bits
    return a._network.add("matmul", name, settings, [a, b])


class Network:
    """A network with its parameters.

    Args:
        forward: A function from the input, a `Value`, to the output; or a layer.
        input_shape: The shape of a sample, such as (28, 28, 1).
        bits: Bits of weights, activations and gradients, such as ``"4/4/4"``; ``"32/32/32"`` is floats.
        seed: The seed of parameters and noise.
        **keys: Keys of the quantization of a recipe, such as ``gradient_rule``.
    """

    def __init__(
        self,
        forward: Callable[[Value], Value],
        input_shape: Sequence[int],
        *,
        bits: str = "4/4/4",
        seed: int = 1,
        **keys: Any,
    ) -> None:
        steps = _Steps()
        output = forward(Value(steps, 0))
        if not isinstance(output, Value) or output._number != len(steps.steps):
            raise ConfigError("forward: expected the value of the last step as its result, found another one")
        self.steps = steps.steps
        self.input_shape = tuple(input_shape)
        self._inner = _fixnet.Network(self.steps, list(input_shape), {"bits": bits, **keys}, seed)

    def __call__(self, x: npt.ArrayLike, training: bool = False) -> npt.NDArray[Any]:
        """Computes the output for samples [N, ...] of floats, in evaluation or as a step of training does."""
        return self._inner.forward(x, training)

    def gradients(
        self, x: npt.ArrayLike, targets: npt.ArrayLike, loss: str = "cross_entropy"
    ) -> tuple[float, dict[str, npt.NDArray[Any]]]:
        """Computes a loss over samples and its gradients by the names of parameters, as a step of training does.

        ``loss`` is ``"cross_entropy"`` (targets are classes [N], or shares of classes [N, K]), ``"mse"`` or ``"l1"``.
        """
        return self._inner.gradients(x, targets, loss)

    def state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Returns all parameters and statistics by name."""
        return self._inner.state_dict()

    def load_state_dict(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Takes back what `state_dict` gave."""
        self._inner.load_state_dict(dict(arrays))

    def summary(self) -> str:
        """Returns a table of the operations with their sizes."""
        return self._inner.summary()

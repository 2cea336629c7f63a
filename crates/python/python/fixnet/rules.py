"""Gradient rules: how the interval of a gradient quantizer is chosen."""

from __future__ import annotations

from typing import Any, Optional

from . import _fixnet


class GradientRule:
    """A gradient rule of your own: a class with `gamma`, and what else it needs.

    Each quantized layer has a deep copy of the object. In each step whose gradient is not zero, the layer calls `observe` with the
    gradient, if the class has such a method, quantizes with `gamma`, and then calls `update` with the share of gradients outside of the
    interval. What is not needed is not defined: `observe` costs a pass over the gradient.

    ::

        class MeanMultiple(fixnet.GradientRule):
            name = "mean-multiple"

            def __init__(self, factor=20.0):
                self.factor, self.value = factor, 1.0

            def observe(self, gradient, bits):
                mean = float(np.abs(gradient).mean(dtype=np.float64))
                self.value = min(1.0, max(1e-3, self.factor * mean / float(np.abs(gradient).max())))

            def gamma(self):
                return self.value

        run = fixnet.train("digits", gradient_rule=MeanMultiple())

    A rule with numbers that the next step depends on has `state_dict` and `load_state_dict`, so that a run that is resumed goes on with
    the same bits.

    Methods that a class may have::

        def observe(self, gradient: numpy.ndarray, bits: int) -> None: ...
        def update(self, outside: float, bits: int) -> None: ...
        def lr_factor(self) -> float: ...
        def state_dict(self) -> dict[str, numpy.ndarray]: ...
        def load_state_dict(self, arrays: dict[str, numpy.ndarray]) -> None: ...
    """

    #: The name in recipes, behind ``python:``. By default that of the class.
    name: str

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__

    def gamma(self) -> float:
        """Returns the clipping factor of this step, above 0 and at most 1: the interval ends at this share of the largest gradient."""
        raise NotImplementedError(f"{type(self).__name__} has no method gamma")


def register_gradient_rule(rule: GradientRule, name: Optional[str] = None) -> str:
    """Makes a rule known by its name, so that recipes can call it; returns the text for ``gradient_rule``.

    A run that was trained with such a rule is resumed by a process that has registered it. `fixnet.train` registers the rules that it is
    given.
    """
    name = rule.name if name is None else name
    _fixnet.register_gradient_rule(name, rule)
    return f"python:{name}"


__all__ = ["GradientRule", "register_gradient_rule"]

"""Gradient rules written in Python, and networks that Python puts together."""

import numpy as np
import pytest

import fixnet
from fixnet import nn


class MinMax(fixnet.GradientRule):
    """The rule of fixnet of this name."""

    name = "py-min-max"

    def gamma(self):
        return 1.0


class Halving(fixnet.GradientRule):
    """Halves the interval with each step, which is its state."""

    def __init__(self):
        self.value = 1.0

    def gamma(self):
        return self.value

    def update(self, outside, bits):
        self.value = max(0.1, self.value / 2)

    def state_dict(self):
        return {"value": np.array([self.value], np.float32)}

    def load_state_dict(self, arrays):
        self.value = float(arrays["value"][0])


def test_a_rule_of_python_has_the_bits_of_the_same_rule_of_fixnet():
    one = fixnet.Session("digits", gradient_rule="min-max", epochs=1)
    other = fixnet.Session("digits", gradient_rule=MinMax(), epochs=1)
    for batch, _ in zip(one.batches(), range(5)):
        assert one.step(batch) == other.step(batch)
    mine = {name: array for name, array in other.state_dict().items()}
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(array, mine[name])


def test_each_layer_has_a_copy_and_its_state_is_saved(tmp_path):
    rule = Halving()
    session = fixnet.Session("digits", gradient_rule=rule, epochs=1)
    for batch, _ in zip(session.batches(), range(3)):
        session.step(batch)
    assert rule.value == 1.0
    values = [array for name, array in session.state_dict().items() if name.endswith(".value")]
    assert values and all(value.tolist() == [0.125] for value in values)
    session.save(tmp_path / "c.safetensors")
    again = fixnet.Session.load(tmp_path / "c.safetensors")
    session.train_epoch()
    again.train_epoch()
    assert again.digest == session.digest


def test_observe_sees_the_gradient():
    class Seen(fixnet.GradientRule):
        def observe(self, gradient, bits):
            self.top, self.bits = float(np.abs(gradient).max()), bits

        def gamma(self):
            return 0.5

    quantizer = fixnet.GradientQuantizer(4, Seen(), rounding="nearest")
    q = quantizer(np.array([1.0, -8.0], np.float32))
    assert quantizer.gamma == 0.5 and q.levels.tolist() == [2, -7]


@pytest.mark.parametrize("gamma", [lambda self: 1 / 0, lambda self: "x", lambda self: 2.0])
def test_a_rule_that_fails_stops_the_step(gamma):
    kind = type("Failing", (fixnet.GradientRule,), {"gamma": gamma})
    session = fixnet.Session("digits", gradient_rule=kind())
    with pytest.raises((ZeroDivisionError, TypeError, fixnet.ConfigError)):
        session.step(next(session.batches()))


def small(x):
    h = nn.ReLU()(nn.BatchNorm2d(4, name="bn1")(nn.Conv2d(1, 4, 3, padding=1, bits="32/32/32", name="conv1")(x)))
    h = h + nn.ReLU()(nn.BatchNorm2d(4, name="bn2")(nn.Conv2d(4, 4, 3, padding=1, name="conv2")(h)))
    return nn.Linear(4, 10, bits="32/32/32", name="fc")(nn.GlobalAvgPool2d()(h))


def test_gradients_are_those_of_differences():
    net = nn.Network(lambda x: nn.Linear(5, 3, name="fc")(nn.Tanh()(nn.Linear(4, 5, name="hidden")(x))), (4,), bits="32/32/32")
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(0, 3, 6)
    _, gradients = net.gradients(x, targets)
    state = net.state_dict()
    assert set(gradients) == set(state)
    for name, gradient in gradients.items():
        place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        losses = []
        for sign in (1, -1):
            moved = {key: array.copy() for key, array in state.items()}
            moved[name][place] += sign * 1e-2
            net.load_state_dict(moved)
            losses.append(net.gradients(x, targets)[0])
        net.load_state_dict(state)
        assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(gradient[place], rel=2e-2, abs=1e-4)


def test_a_network_of_layers_is_trained_and_run():
    net = nn.Network(small, (28, 28, 1), bits="4/4/4")
    assert net(np.zeros((2, 28, 28, 1))).shape == (2, 10)
    assert "conv2" in net.summary()
    session = fixnet.Session("digits", network=net, epochs=1)
    losses = [session.step(batch) for batch, _ in zip(session.batches(), range(20))]
    assert losses[-1] < losses[0]
    with pytest.raises(fixnet.ShapeError):
        net(np.zeros((2, 28, 28, 3)))


def test_products_of_two_values():
    net = nn.Network(lambda x: nn.matmul(nn.Linear(4, 4)(x), x, transposed=True), (3, 4), bits="8/8/8")
    assert net(np.ones((2, 3, 4))).shape == (2, 3, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Network(lambda x: x + 1, (4,)),
        lambda: nn.Network(lambda x: None, (4,)),
        lambda: nn.Network(nn.Linear(4, 0), (4,)),
        lambda: nn.Network(nn.Linear(4.5, 2), (4,)),
        lambda: nn.Network(nn.Linear(5, 2), (4,)),
        lambda: nn.Network(nn.Linear(4, 2, bits="odd"), (4,)),
        lambda: nn.Network(nn.Conv2d(4, 4, 3, groups=3), (8, 8, 4)),
        lambda: nn.Network(nn.Conv2d(4, 4, 30), (8, 8, 4)),
        lambda: nn.Network(nn.MaxPool2d(2, 0), (8, 8, 4)),
        lambda: nn.Network(nn.Softmax(9), (4,)),
    ],
)
def test_networks_that_cannot_be_built(make):
    with pytest.raises((fixnet.FixnetError, TypeError)) as raised:
        make()
    assert not isinstance(raised.value, fixnet.InternalError)

"""Quantizers and products: exact against NumPy, and arguments of any kind never crash."""

import os

import numpy as np
import pytest

import fixnet

ROUNDS = int(os.environ.get("FIXNET_RANDOM_ARGUMENTS", "2000"))


@pytest.mark.parametrize("bits", range(2, 9))
def test_levels_are_those_of_numpy(bits):
    x = np.random.default_rng(bits).normal(size=(7, 33)).astype(np.float32)
    top = 2 ** (bits - 1) - 1
    levels, scale = fixnet.quantize(x, bits)
    assert scale == np.abs(x).max() / np.float32(top)
    expected = np.rint(np.clip(x * (np.float32(1) / np.float32(scale)), -top, top))
    np.testing.assert_array_equal(levels, expected)
    assert levels.dtype == np.int8


def test_levels_of_the_other_kinds():
    assert fixnet.quantize([-0.2, 0.4, 9.0], 2, scale=1.0, levels="unsigned").levels.tolist() == [0, 0, 3]
    assert fixnet.quantize([-9.0, 0.5, 1.5, 9.0], 3, scale=1.0, levels="twos_complement").levels.tolist() == [-4, 0, 2, 3]
    assert fixnet.quantize([-0.1, 0.0, 3.0], 1, scale=1.0).levels.tolist() == [-1, 1, 1]
    q = fixnet.quantize([1.0, -2.0], 8)
    np.testing.assert_allclose(q.dequantize(), [1.0, -2.0], atol=0.01)


def test_a_gradient_is_clipped_at_gamma():
    g = np.array([1.0, -0.5, 0.25, 4.0], np.float32)
    q = fixnet.quantize_gradient(g, 4, "fixed:0.25", rounding="nearest")
    assert q.gamma == 0.25 and q.levels.tolist() == [7, -4, 2, 7]
    assert q.scale == np.float32(1.0) / np.float32(7)
    one = fixnet.quantize_gradient(g, 4, "min-max", seed=1)
    again = fixnet.quantize_gradient(g, 4, "min-max", seed=1)
    assert one.levels.tolist() == again.levels.tolist()


def test_stochastic_rounding_has_the_mean_of_the_number():
    g = np.full(100_000, 0.3, np.float32)
    g[0] = 7.0
    levels = fixnet.quantize_gradient(g, 4, "min-max").levels[1:]
    assert set(np.unique(levels)) == {0, 1} and abs(levels.mean() - 0.3) < 0.01


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (17, 300, 33), (0, 4, 2), (2, 0, 3)])
def test_products_are_exact(bits, shape):
    m, k, n = shape
    rng = np.random.default_rng(k)
    a = rng.integers(0, 2**bits, (m, k), dtype=np.uint8)
    b = rng.choice([-1, 1], (k, n)).astype(np.int8) if bits == 1 else rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (k, n), dtype=np.int8)
    product = fixnet.matmul_codes(a, b, bits=bits)
    assert product.dtype == np.int32
    np.testing.assert_array_equal(product, a.astype(np.int64) @ b.astype(np.int64))


def test_pairs_of_matrices_and_views():
    rng = np.random.default_rng(0)
    a = rng.integers(-128, 128, (2, 3, 8, 6), dtype=np.int8)
    b = rng.integers(-128, 128, (2, 3, 5, 8), dtype=np.int8)
    left, right = a[..., ::2, :].transpose(0, 1, 3, 2), b[..., ::2].transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(fixnet.matmul_codes(left, right), left.astype(int) @ right.astype(int))


def test_kernels_name_the_one_that_is_used():
    rows = fixnet.kernels()
    assert sum(row["used_for_4_bits"] for row in rows) == 1 and rows[-1]["isa"] == "scalar"
    before = fixnet.get_isa()
    try:
        fixnet.set_isa("scalar")
        assert [row["isa"] for row in fixnet.kernels() if row["used_for_8_bits"]] == ["scalar"]
    finally:
        fixnet.set_isa(before)
    with pytest.raises(fixnet.ConfigError, match="no such instruction set"):
        fixnet.set_isa("mmx")


@pytest.mark.parametrize(
    "call, kind",
    [
        (lambda: fixnet.quantize([np.nan], 4), fixnet.DataError),
        (lambda: fixnet.quantize([1.0], 9), fixnet.ConfigError),
        (lambda: fixnet.quantize([1.0], 4, scale=0.0), fixnet.ConfigError),
        (lambda: fixnet.quantize([1.0], 4, levels="odd"), fixnet.ConfigError),
        (lambda: fixnet.quantize(["a"], 4), fixnet.DataError),
        (lambda: fixnet.quantize([[1.0], [1.0, 2.0]], 4), fixnet.DataError),
        (lambda: fixnet.quantize([1j], 4), fixnet.DataError),
        (lambda: fixnet.quantize_gradient([], 4), fixnet.DataError),
        (lambda: fixnet.quantize_gradient([1.0], 4, "odd"), fixnet.ConfigError),
        (lambda: fixnet.matmul_codes(np.zeros((2, 3)), np.zeros((3, 2), np.int8)), fixnet.DataError),
        (lambda: fixnet.matmul_codes(np.full((2, 3), 9, np.int8), np.zeros((3, 2), np.int8), bits=4), fixnet.DataError),
        (lambda: fixnet.matmul_codes(np.zeros((2, 3), np.int8), np.zeros((2, 3), np.int8)), fixnet.ShapeError),
        (lambda: fixnet.set_num_threads(0), fixnet.ConfigError),
    ],
)
def test_mistakes_are_exceptions_of_fixnet(call, kind):
    with pytest.raises(kind):
        call()


def odd_array(rng):
    """An array of any type, shape, order and contents."""
    types = "f2 f4 f8 i1 u1 i2 i4 i8 u8 ? c8 U3 S2 O >f4 >i4 M8[s] m8[s]".split()
    kind = np.dtype(types[rng.integers(len(types))])
    shape = tuple(rng.integers(0, 9, rng.integers(0, 5)))
    if kind == object:
        return np.array([[None, "x", 2.0], [1, 2, 3], 4][rng.integers(3)], dtype=object)
    raw = rng.integers(0, 256, max(1, int(np.prod(shape))) * kind.itemsize * 2, dtype=np.uint8)
    with np.errstate(all="ignore"):
        try:
            array = np.frombuffer(raw.tobytes(), kind)[: int(np.prod(shape))].reshape(shape)
        except ValueError:
            array = np.zeros(shape, kind)
        which = rng.integers(7)
        if which == 0:
            array = np.asfortranarray(array)
        elif which == 1 and array.ndim:
            array = array[::-1]
        elif which == 2 and array.ndim:
            array = array[..., ::2]
        elif which == 3:
            array = np.broadcast_to(array, (2, *array.shape))
        elif which == 4 and kind.kind in "fiu" and array.ndim == 1 and array.size:
            # Not aligned.
            array = np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:].view(kind)
        elif which == 5 and kind.kind == "f":
            array = array.copy()
            array[...] = [np.nan, np.inf, -np.inf, 1e-45, 3e38][rng.integers(5)]
    return array


def test_any_arguments_give_results_or_exceptions(run):
    """Nothing but results, and errors that say what is wrong; a fault in fixnet would be an InternalError."""
    rng = np.random.default_rng(int(os.environ.get("FIXNET_RANDOM_SEED", "0")))
    predictor = run.predictor()
    session = fixnet.Session("mlp-digits")
    net = fixnet.nn.Network(fixnet.nn.Linear(4, 3, bits="32/32/32"), (4,))
    done = 0
    for i in range(ROUNDS):
        x, y = odd_array(rng), odd_array(rng)
        bits = int(rng.integers(-1, 11))
        calls = [
            lambda: fixnet.quantize(x, bits),
            lambda: fixnet.quantize(x, 4, scale=float(rng.normal()), levels=["unsigned", "twos_complement"][i % 2]),
            lambda: fixnet.quantize_gradient(x, bits, ["lbt", "mse", "dsgc", "min-max"][i % 4]),
            lambda: fixnet.matmul_codes(x, y, bits=(bits, 8)),
            lambda: predictor.predict(x),
            lambda: session.evaluate(x, y),
            lambda: net(x),
            lambda: net.gradients(x, y, ["cross_entropy", "mse"][i % 2]),
        ]
        with np.errstate(all="ignore"):
            try:
                calls[i % len(calls)]()
                done += 1
            except fixnet.InternalError:
                raise
            except (fixnet.FixnetError, TypeError, OverflowError):
                pass
    assert done > 0

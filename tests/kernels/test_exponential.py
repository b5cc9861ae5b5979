import math

import mpmath
import numba
import numpy as np
import pytest

from dasksne.kernels.compiled import (
    SMALLEST_EXPONENT,
    STRICT,
    SUMMATION,
    exp_nonpositive,
    single_exp_nonpositive,
)


def in_a_loop(fastmath):
    """Compile the loop that kernels run: there the exponential is inlined and vectorised."""

    @numba.njit(fastmath=fastmath)
    def loop(x, out):
        for i in range(x.size):
            out[i] = exp_nonpositive(x[i])

    def function(x):
        out = np.empty_like(x)
        loop(x, out)
        return out

    return function


@pytest.fixture(scope="module", params=[STRICT, SUMMATION], ids=["strict", "summation"])
def exponential(request):
    return in_a_loop(request.param)


def test_within_one_unit_in_the_last_place(exponential):
    rng = np.random.default_rng(0)
    half_steps = (np.arange(-1021, 1) + 0.5) * math.log(2.0)  # where the reduction changes n
    x = np.concatenate(
        [
            rng.uniform(SMALLEST_EXPONENT, 0.0, 8000),
            -np.exp(rng.uniform(-40.0, math.log(-SMALLEST_EXPONENT), 8000)),
            half_steps[(half_steps <= 0.0) & (half_steps >= SMALLEST_EXPONENT)],
            [0.0, -0.0, SMALLEST_EXPONENT],
        ]
    )
    values = exponential(x)
    with mpmath.workdps(40):
        for argument, value in zip(x.tolist(), values.tolist(), strict=True):
            error = mpmath.mpf(value) - mpmath.exp(mpmath.mpf(argument))
            assert abs(error) <= math.ulp(value), argument


def test_one_at_zero(exponential):
    np.testing.assert_array_equal(exponential(np.array([0.0, -0.0])), 1.0)


def test_nothing_below_the_smallest_exponent(exponential):
    x = np.array([np.nextafter(SMALLEST_EXPONENT, -np.inf), -709.0, -745.2, -1e5, -1e300, -np.inf])
    np.testing.assert_array_equal(exponential(x), 0.0)


def test_nan_stays_nan(exponential):
    x = np.array([np.nan, -1.0] * 8)
    values = exponential(x)
    assert np.all(np.isnan(values[::2]))
    np.testing.assert_array_equal(values[1::2], values[1])


def test_called_by_itself():
    assert exp_nonpositive(-1.0) == pytest.approx(math.exp(-1.0), rel=2.3e-16)


def test_single_precision():
    x = np.concatenate([np.linspace(-87.0, 0.0, 20_001), [-88.0, -1e30, -np.inf]])
    x = x.astype(np.float32)

    @numba.njit
    def loop(x, out):
        for i in range(x.size):
            out[i] = single_exp_nonpositive(x[i])

    found = np.empty_like(x)
    loop(x, found)
    np.testing.assert_allclose(found[:-3], np.exp(x[:-3].astype(np.float64)), rtol=3e-7)
    np.testing.assert_array_equal(found[-3:], 0.0)

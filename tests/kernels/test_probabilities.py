import numpy as np
import pytest
import reference
from scipy.sparse import csr_array

from dasksne.kernels.calibration import Calibration, calibrate, normalise
from dasksne.kernels.probabilities import (
    conditional_probabilities,
    joint_probabilities,
    kept_probabilities,
)

PERPLEXITY = 8.0


@pytest.fixture
def distances(rng):
    return reference.squared_distances(rng.normal(size=(50, 4)))


@pytest.fixture
def calibration(distances):
    return calibrate(distances, 0, PERPLEXITY)


def rows_of(calibration, rows):
    return Calibration(*(values[rows] for values in calibration))


def conditional(distances, calibration, dtype=np.float64):
    out = np.full(distances.shape, np.nan, dtype=dtype)
    conditional_probabilities(distances, 0, calibration, out)
    return out


def joint(distances, calibration, rows, columns, back=None, dtype=np.float64):
    tile = np.ascontiguousarray(distances[rows, columns])
    back = tile if back is None else np.ascontiguousarray(back[columns, rows].T)
    out = np.full(tile.shape, np.nan, dtype=dtype)
    joint_probabilities(tile, back, rows, columns, calibration, out)
    return out


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 1e-7)])
def test_conditional_probabilities(distances, calibration, dtype, rtol):
    expected = np.exp(reference.log_probabilities(distances, calibration.precision))
    np.testing.assert_allclose(
        conditional(distances, calibration, dtype), expected, rtol=rtol, atol=1e-30
    )


def test_rows_of_a_block_know_their_own_entry(distances, calibration):
    whole = conditional(distances, calibration)
    out = np.empty((7, 50))
    conditional_probabilities(distances[11:18], 11, rows_of(calibration, slice(11, 18)), out)
    np.testing.assert_array_equal(out, whole[11:18])
    np.testing.assert_array_equal(out[np.arange(7), np.arange(11, 18)], 0.0)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (slice(0, 50), slice(0, 50)),
        (slice(3, 20), slice(10, 30)),
        (slice(40, 50), slice(0, 10)),
        (slice(5, 6), slice(5, 6)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_joint_probabilities_are_both_ways_together(distances, calibration, rows, columns, dtype):
    P = conditional(distances, calibration)
    np.testing.assert_array_equal(
        joint(distances, calibration, rows, columns, dtype=dtype),
        (P + P.T)[rows, columns].astype(dtype),
    )


def test_distances_back_may_differ(rng, calibration):
    distances = rng.random((50, 50))
    out = conditional(distances, calibration)
    np.testing.assert_array_equal(
        joint(distances, calibration, slice(4, 30), slice(0, 50), back=distances),
        (out + out.T)[4:30],
    )


def test_inputs_are_left_alone(distances, calibration):
    before = distances.copy()
    conditional(distances, calibration)
    joint(distances, calibration, slice(0, 50), slice(0, 50))
    np.testing.assert_array_equal(distances, before)


def test_distances_may_be_overwritten_by_their_probabilities(distances, calibration):
    expected = conditional(distances, calibration)
    conditional_probabilities(distances, 0, calibration, distances)
    np.testing.assert_array_equal(distances, expected)


def grid(n, d):
    axes = np.meshgrid(*[np.linspace(0.0, 1.0, n)] * d)
    return np.stack([axis.ravel() for axis in axes], axis=1)


def with_a_sentinel(rng):
    x = rng.normal(size=(60, 3))
    x[0] = 1e17
    return x


FAR = {
    "a grid, ties but for rounding": (lambda _: grid(7, 3), 5.0),
    "a square grid": (lambda _: grid(20, 2), 4.0),
    "one row that says nothing": (with_a_sentinel, 5.0),
    "all far and equally so": (lambda _: 1e8 * np.eye(60), 5.0),
    "pairs far apart": (lambda rng: np.repeat(1e9 * np.eye(30), 2, 0) + rng.random((60, 30)), 3.0),
    "far beside its spread": (lambda rng: 1e9 * np.eye(60) + rng.random((60, 60)), 5.0),
}


@pytest.mark.parametrize("name", FAR)
@pytest.mark.parametrize("tail_mass", [0.0, 1e-3])
def test_rows_sum_to_one_however_far_the_nearest_is_beside_the_spread(rng, name, tail_mass):
    make, perplexity = FAR[name]
    distances = reference.squared_distances(make(rng))
    found = calibrate(distances, 0, perplexity, tail_mass)
    p = conditional(distances, found)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    whole = slice(0, len(p))
    np.testing.assert_allclose(joint(distances, found, whole, whole), p + p.T, rtol=1e-12)
    data, indices, indptr = kept_probabilities(distances, 0, found)
    np.testing.assert_array_equal(csr_array((data, indices, indptr), p.shape).toarray(), p)
    if tail_mass == 0.0:
        expected = np.exp(reference.log_probabilities(distances, found.precision))
        np.testing.assert_allclose(p, expected, rtol=1e-12, atol=1e-300)


def test_ties_that_rounding_breaks_share_a_row():
    found = calibrate(reference.squared_distances(grid(7, 3)), 0, 5.0)
    inner = np.all((grid(7, 3) > 0.0) & (grid(7, 3) < 1.0), axis=1)
    np.testing.assert_allclose(found.entropy[inner], np.log(6.0), rtol=1e-12)


@pytest.mark.parametrize("width", [1e-9, 1e-5])
def test_rows_sum_to_one_for_a_width_far_too_small(rng, width):
    distances = reference.squared_distances(rng.normal(size=(50, 3)))
    found = normalise(distances, 0, width**-2.0)
    p = conditional(distances, found)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    expected = np.exp(reference.log_probabilities(distances, found.precision))
    np.testing.assert_allclose(p, expected, rtol=1e-12, atol=1e-300)

import numpy as np
import pytest
import reference

from dasksne.kernels.calibration import Calibration, calibrate
from dasksne.kernels.probabilities import conditional_probabilities, joint_probabilities

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

import math

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from dasksne.kernels.calibration import calibrate, normalise

ENTROPY_TOLERANCE = 1e-12
ROUNDING = 1e-14


def assert_calibrated(distances, found, perplexity):
    """Hold each field against exactly rounded sums at the precision that was found."""
    log_p = reference.log_probabilities(distances, found.precision)
    for i, row in enumerate(log_p):
        assert reference.entropy(row) == pytest.approx(
            math.log(perplexity), abs=ENTROPY_TOLERANCE + ROUNDING
        )
        assert found.entropy[i] == pytest.approx(reference.entropy(row), abs=10 * ROUNDING)
    assert_normalised(distances, found)


def assert_normalised(distances, found):
    """A row's log p and -beta (d - nearest) differ by its log normaliser."""
    log_p = reference.log_probabilities(distances, found.precision)
    exponents = found.precision[:, np.newaxis] * (distances - found.nearest[:, np.newaxis])
    near = log_p > -50.0
    np.testing.assert_allclose(
        (-exponents - found.log_normaliser[:, np.newaxis])[near],
        log_p[near],
        atol=ROUNDING * (1.0 + np.max(exponents[near])),
    )


@given(st.integers(3, 60), st.integers(1, 8), st.floats(0.001, 0.999), st.integers(0, 2**32 - 1))
def test_every_perplexity_is_reached(n, n_features, share, seed):
    perplexity = 1.0 + share * (n - 2)
    x = np.random.default_rng(seed).normal(size=(n, n_features))
    distances = reference.squared_distances(x)
    assert_calibrated(distances, calibrate(distances, 0, perplexity), perplexity)


@pytest.mark.parametrize("scale", [1e-290, 1e-100, 1e100, 1e290])
def test_any_unit_of_distance(rng, scale):
    distances = scale * reference.squared_distances(rng.normal(size=(40, 4)))
    assert_calibrated(distances, calibrate(distances, 0, 10.0), 10.0)


def test_groups_outliers_and_near_duplicates(rng):
    tight = 1e-3 * rng.normal(size=(20, 3))
    x = np.concatenate([tight, tight + 100.0, tight[:5] + 1e-9, [[1e6, 0.0, 0.0]]])
    distances = reference.squared_distances(x)
    assert_calibrated(distances, calibrate(distances, 0, 5.0), 5.0)


def test_a_group_that_is_tiny_beside_its_distance_from_the_rest(rng):
    """In the unit of its own width that distance has a square beyond the largest number."""
    x = np.concatenate([1e-79 * rng.normal(size=(30, 3)), rng.normal(size=(30, 3)) + 5.0])
    distances = reference.vectorised_squared_distances(x)
    assert_calibrated(distances, calibrate(distances, 0, 5.0), 5.0)


def test_just_more_neighbours_than_ties():
    distances = reference.squared_distances(np.array([[0.0]] * 5 + [[1.0], [2.0], [3.0]]))
    found = calibrate(distances[:5], 0, 4.0001)
    np.testing.assert_allclose(found.entropy, math.log(4.0001), rtol=0.0, atol=ENTROPY_TOLERANCE)


def test_agrees_with_bisection(rng):
    distances = reference.squared_distances(rng.normal(size=(50, 5)))
    expected = reference.precision_for_perplexity(distances, 12.0)
    np.testing.assert_allclose(calibrate(distances, 0, 12.0).precision, expected, rtol=1e-9)


@pytest.mark.parametrize("perplexity", [1.5, 3.0, 4.0])
def test_more_duplicates_than_the_perplexity_share_the_row(perplexity):
    distances = reference.squared_distances(np.array([[0.0]] * 5 + [[1.0], [5.0]]))
    found = calibrate(distances[:5], 0, perplexity)
    np.testing.assert_allclose(found.entropy, math.log(4.0), rtol=ROUNDING)
    np.testing.assert_allclose(found.log_normaliser, math.log(4.0), rtol=ROUNDING)


def test_equal_points_make_a_uniform_row():
    found = calibrate(np.zeros((6, 6)), 0, 2.0)
    assert np.all(np.isfinite(found.precision))
    np.testing.assert_allclose(found.entropy, math.log(5.0), rtol=ROUNDING)
    np.testing.assert_allclose(found.log_normaliser, math.log(5.0), rtol=ROUNDING)


def test_a_row_has_the_same_bits_in_every_block(rng):
    distances = reference.squared_distances(rng.normal(size=(30, 4)))
    whole = calibrate(distances, 0, 7.0)
    part = calibrate(distances[11:17], 11, 7.0)
    for field, expected in zip(part, whole, strict=True):
        np.testing.assert_array_equal(field, expected[11:17])


def test_the_own_entry_is_not_read(rng):
    distances = reference.squared_distances(rng.normal(size=(30, 4)))
    expected = calibrate(distances, 0, 7.0), normalise(distances, 0, 0.5)
    np.fill_diagonal(distances, np.nan)
    for found, same in zip(
        (calibrate(distances, 0, 7.0), normalise(distances, 0, 0.5)), expected, strict=True
    ):
        np.testing.assert_array_equal(np.array(found), np.array(same))


def test_inputs_are_left_alone(rng):
    distances = reference.squared_distances(rng.normal(size=(20, 4)))
    before = distances.copy()
    calibrate(distances, 0, 7.0)
    normalise(distances, 0, 1.0)
    np.testing.assert_array_equal(distances, before)


@pytest.mark.parametrize("precision", [1e-6, 0.5, 30.0])
def test_normaliser_and_entropy_at_a_given_precision(rng, precision):
    distances = reference.squared_distances(rng.normal(size=(25, 3)))
    found = normalise(distances, 0, precision)
    np.testing.assert_array_equal(found.precision, precision)
    assert_normalised(distances, found)
    expected = [
        reference.entropy(row) for row in reference.log_probabilities(distances, found.precision)
    ]
    np.testing.assert_allclose(found.entropy, expected, atol=ROUNDING)


def test_an_isolated_row_has_a_finite_normaliser():
    distances = reference.squared_distances(np.array([[0.0], [1.0], [1000.0]]))
    found = normalise(distances, 0, 1.0)
    np.testing.assert_array_equal(found.nearest, [1.0, 1.0, 999.0**2])
    np.testing.assert_allclose(found.log_normaliser, 0.0, atol=ROUNDING)


def test_a_row_with_nan_ends_as_nan(rng):
    distances = reference.squared_distances(rng.normal(size=(12, 3)))
    expected = calibrate(distances, 0, 4.0)
    distances[3, 7] = np.nan
    found = calibrate(distances, 0, 4.0)
    assert np.isnan(found.log_normaliser[3])
    np.testing.assert_array_equal(np.delete(found.precision, 3), np.delete(expected.precision, 3))


def test_rows_of_points_that_are_no_columns(rng):
    # As new points are placed: no column is a row's own.
    distances = reference.squared_distances(rng.normal(size=(30, 4)))[:7, 7:]
    found = calibrate(distances, distances.shape[1], 6.0)
    weights = np.exp(-found.precision[:, np.newaxis] * distances)
    p = weights / weights.sum(axis=1, keepdims=True)
    entropies = -np.sum(p * np.log(p), axis=1)
    np.testing.assert_allclose(entropies, math.log(6.0), atol=ENTROPY_TOLERANCE)

"""Points that count more than once: every kernel against the same data with copies."""

import numpy as np
import pytest
import reference

from dasksne.kernels import fourier
from dasksne.kernels import repulsion as direct
from dasksne.kernels.calibration import calibrate, normalise
from dasksne.kernels.components import covariance_product, squared_deviations
from dasksne.kernels.isolated import add_reactions, isolated_rows, joined
from dasksne.kernels.placement import place, weighted_means
from dasksne.kernels.tiling import cheapest_tiling

COUNTS = np.array([1.0, 3.0, 1.0, 2.0, 5.0, 1.0, 1.0, 4.0, 2.0, 1.0, 1.0, 2.0])
N = COUNTS.size
COPIES = np.repeat(np.arange(N), COUNTS.astype(int))
FIRST = np.searchsorted(COPIES, np.arange(N))
ROUNDING = 1e-11


@pytest.fixture
def distances(rng):
    return reference.vectorised_squared_distances(rng.normal(size=(N, 3)))


def with_copies(distances):
    return np.ascontiguousarray(distances[np.ix_(COPIES, COPIES)])


def assert_same_rows(found, expected, rtol=ROUNDING):
    for name in ("precision", "log_normaliser", "entropy"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name)[FIRST], rtol=rtol, atol=rtol
        )


# At the last of these, more copies than the perplexity share the smallest distance of some rows.
@pytest.mark.parametrize("perplexity", [20.0, 8.0, 3.5])
def test_calibration(distances, perplexity):
    found = calibrate(distances, 0, perplexity, counts=COUNTS)
    expected = calibrate(with_copies(distances), 0, perplexity)
    # Where nothing reaches the perplexity, any precision large enough does.
    assert_same_rows(found, expected, rtol=1e-9)


def test_given_precision(distances):
    precision = np.linspace(0.5, 2.0, N)
    found = normalise(distances, 0, precision, counts=COUNTS)
    assert_same_rows(found, normalise(with_copies(distances), 0, precision[COPIES]))


def test_counts_need_not_be_whole(distances):
    counts = COUNTS + 0.25
    beta, nearest, log_z, entropy, *_ = calibrate(distances[2:7], 2, 8.0, counts=counts)
    times = np.tile(counts, (5, 1))
    times[np.arange(5), np.arange(2, 7)] -= 1.0
    p = np.exp(-beta[:, None] * (distances[2:7] - nearest[:, None]) - log_z[:, None])
    np.testing.assert_allclose(np.sum(times * p, axis=1), 1.0, rtol=ROUNDING)
    np.testing.assert_allclose(-np.sum(times * p * np.log(p), axis=1), np.log(8.0), rtol=1e-10)
    np.testing.assert_allclose(entropy, np.log(8.0), rtol=1e-10)


def test_a_row_beyond_the_last_column_has_no_copies(distances):
    found = calibrate(distances[:3], N, 6.0, counts=COUNTS)
    np.testing.assert_allclose(
        found.precision, calibrate(distances[:3, COPIES], COPIES.size, 6.0).precision, rtol=1e-9
    )


def repulsion_with_copies(Y):
    """The literal sums over all copies, and log Z, of one copy of each point."""
    Y = Y[COPIES]
    log_q = reference.vectorised_log_probabilities(
        reference.vectorised_squared_distances(Y), np.ones(len(Y))
    )
    q = np.exp(log_q)
    forces = np.sum((q + q.T)[:, :, None] * (Y[:, None] - Y), axis=1)
    squared = reference.vectorised_squared_distances(Y)
    other = (np.arange(len(Y)) + 1) % len(Y)
    at = np.arange(len(Y)), other
    return forces[FIRST] * COUNTS[:, None], (-squared[at] - log_q[at])[FIRST]


def by_direct(y):
    rows = slice(0, 5), slice(5, N)
    parts = [direct.first_pass(part, y, COUNTS) for part in rows]
    weights = np.concatenate([part.weights for part in parts])
    isolated = joined([part.isolated for part in parts])
    R = [direct.second_pass(part, y, weights, isolated, COUNTS) for part in parts]
    return np.concatenate(R), np.concatenate([part.log_z for part in parts])


def by_fourier(y):
    return fourier.repulsion_by(cheapest_tiling(y, 1e-8), y, 1e-8, COUNTS)


# At the largest scale rows of a single copy are isolated, and most tiles hold one point.
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0, 40.0])
@pytest.mark.parametrize("evaluate", [by_direct, by_fourier])
def test_repulsion(rng, monkeypatch, evaluate, scale):
    monkeypatch.setattr(fourier, "MOST_ISOLATED", 1.0)
    Y = scale * rng.normal(size=(N, 2))
    R, log_z = evaluate(np.ascontiguousarray(Y.T))
    expected, expected_log_z = repulsion_with_copies(Y)
    size = 1.0 + np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(R / size, expected / size, atol=1e-9)
    np.testing.assert_allclose(log_z, expected_log_z, rtol=1e-9, atol=1e-9)


def test_isolated_rows_are_those_of_the_sums(rng):
    Y = 2.0 * rng.normal(size=(N, 2))
    y = np.ascontiguousarray(Y.T)
    isolated, log_z, push = isolated_rows(y, np.arange(N), COUNTS)
    add_reactions(y, isolated, slice(0, N), push, COUNTS)
    expected, expected_log_z = repulsion_with_copies(Y)
    np.testing.assert_allclose(push.T, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_z, expected_log_z, rtol=1e-9, atol=1e-12)


def test_placement(rng):
    Y, distances = rng.normal(size=(N, 2)), rng.random((4, N))
    precision = np.array([1.0, 5.0, 10.0, 20.0])
    y, copies = np.ascontiguousarray(Y.T), np.ascontiguousarray(Y[COPIES].T)
    means = weighted_means(distances, precision, y, COUNTS)
    expected = weighted_means(np.ascontiguousarray(distances[:, COPIES]), precision, copies)
    np.testing.assert_allclose(means, expected, rtol=ROUNDING)
    np.testing.assert_allclose(place(means, y, counts=COUNTS), place(expected, copies), rtol=1e-9)


def test_moments_of_features(rng):
    x, vectors = rng.normal(size=(N, 4)), rng.normal(size=(4, 2))
    mean = x[COPIES].mean(axis=0)
    np.testing.assert_allclose(
        squared_deviations(x, mean, COUNTS), squared_deviations(x[COPIES], mean), rtol=ROUNDING
    )
    np.testing.assert_allclose(
        covariance_product(x, mean, vectors, COUNTS),
        covariance_product(x[COPIES], mean, vectors),
        rtol=ROUNDING,
    )

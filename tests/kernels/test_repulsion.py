import itertools

import numpy as np
import pytest
import reference

from dasksne.kernels.isolated import joined
from dasksne.kernels.repulsion import COLUMN_TILE, first_pass, second_pass


def expected(Y):
    """R and log Z over all pairs, by log-sum-exp."""
    squared = reference.vectorised_squared_distances(Y)
    log_q = reference.vectorised_log_probabilities(squared, np.ones(len(Y)))
    q = np.exp(log_q)
    np.fill_diagonal(squared, np.inf)
    nearest = squared.min(axis=1)
    log_z = np.log(np.exp(nearest[:, None] - squared).sum(axis=1)) - nearest
    difference = Y[:, None] - Y
    return np.einsum("ij,ijk->ik", q + q.T, difference), log_z


def found(Y, n_blocks=1):
    y = np.ascontiguousarray(Y.T)
    bounds = np.linspace(0, len(Y), n_blocks + 1).astype(int).tolist()
    first = [first_pass(slice(*pair), y) for pair in itertools.pairwise(bounds)]
    weights = np.concatenate([part.weights for part in first])
    isolated = joined([part.isolated for part in first])
    R = np.concatenate([second_pass(part, y, weights, isolated) for part in first])
    return R, np.concatenate([part.log_z for part in first])


def assert_agrees(Y, n_blocks=1):
    R, log_z = found(Y, n_blocks)
    expected_R, expected_log_z = expected(Y)
    assert reference.gradient_error(R, expected_R, Y) <= 1e-12
    np.testing.assert_allclose(log_z, expected_log_z, rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 10.0, 100.0])
def test_maps_of_any_size(rng, d, scale):
    assert_agrees(scale * rng.normal(size=(150, d)))


@pytest.mark.parametrize("far", [50.0, 1e6])
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_an_outlier(rng, far, d):
    Y = rng.normal(size=(150, d))
    Y[3, 0] += far
    assert_agrees(Y, n_blocks=4)


def test_two_far_groups_and_equal_points(rng):
    Y = rng.normal(size=(150, 2))
    Y[70:] += 1e3
    Y[100:120] = Y[100]
    assert_agrees(Y)


def test_equal_points_do_not_push():
    R, log_z = found(np.ones((40, 2)))
    np.testing.assert_array_equal(R, 0.0)
    np.testing.assert_allclose(log_z, np.log(39.0))


def test_two_points():
    R, log_z = found(np.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(R, [[-6.0, -8.0], [6.0, 8.0]])
    np.testing.assert_allclose(log_z, -25.0)


@pytest.mark.parametrize("far", [0.0, 50.0])
def test_row_blocks_give_the_same_bits(rng, far):
    Y = rng.normal(size=(2 * COLUMN_TILE + 50, 2))
    Y[5] += far
    whole = found(Y)
    for n_blocks in (2, 7):
        for part, field in zip(found(Y, n_blocks), whole, strict=True):
            np.testing.assert_array_equal(part, field)


def test_action_equals_reaction(rng):
    Y = 3.0 * rng.normal(size=(200, 2))
    np.testing.assert_allclose(found(Y)[0].sum(axis=0), 0.0, atol=1e-11)


def test_inputs_are_left_alone(rng):
    y = rng.normal(size=(2, 60))
    y[:, 0] = 1e3
    before = y.copy()
    first = first_pass(slice(0, 60), y)
    force, weights = first.repulsion.copy(), first.weights.copy()
    second_pass(first, y, weights, first.isolated)
    np.testing.assert_array_equal(y, before)
    np.testing.assert_array_equal(first.repulsion, force)
    np.testing.assert_array_equal(first.weights, weights)

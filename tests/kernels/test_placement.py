"""Places of new points against the literal cost, SciPy's minimiser and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from dasksne.kernels.calibration import calibrate
from dasksne.kernels.placement import DAMPING, REACH, place, weighted_means

GRADIENT = 1e-10


def cost(place, p, Y):
    """The new point's row of C, by its definition: sum p log(p / q), without sum p log p."""
    squared = np.sum((place - Y) ** 2, axis=1)
    return float(p @ squared + logsumexp(-squared))


def gradient(place, p, Y):
    q = softmax(-np.sum((place - Y) ** 2, axis=1))
    return 2.0 * (p - q) @ (place - Y)


def placed(p, Y):
    return place(p @ Y, np.ascontiguousarray(Y.T))


def random_rows(rng, r, n, sharpness=1.0):
    return softmax(sharpness * rng.normal(size=(r, n)), axis=1)


@given(st.integers(3, 60), st.integers(1, 4), st.floats(0.1, 3.0), st.integers(0, 2**32 - 1))
def test_the_gradient_vanishes_in_any_dimension(n, d, scale, seed):
    rng = np.random.default_rng(seed)
    Y = scale * rng.normal(size=(n, d))
    p = random_rows(rng, 5, n)
    for row, at in zip(p, placed(p, Y), strict=True):
        if np.linalg.norm(at - row @ Y) < REACH:
            np.testing.assert_allclose(gradient(at, row, Y), 0.0, atol=GRADIENT)


def test_ordinary_points_are_within_reach(rng):
    """So that the test above does not pass by leaving out its cases."""
    Y = rng.normal(size=(200, 2))
    p = random_rows(rng, 50, 200, sharpness=2.0)
    assert np.max(np.linalg.norm(placed(p, Y) - p @ Y, axis=1)) < 1.0


def test_every_start_of_scipy_ends_there(rng):
    Y = 2.0 * rng.normal(size=(80, 2))
    (p,) = random_rows(rng, 1, 80)
    (at,) = placed(p[np.newaxis], Y)
    for start in 3.0 * rng.normal(size=(6, 2)):
        found = minimize(cost, start, args=(p, Y), jac=gradient, method="BFGS", tol=1e-9)
        np.testing.assert_allclose(found.x, at, atol=1e-7)
        assert cost(at, p, Y) <= found.fun + 1e-12


def test_between_two_points():
    """q_1 / q_2 = exp(4 y a) at y between -a and a on a line."""
    Y = np.array([[-1.5], [1.5]])
    share = np.array([0.01, 0.5, 0.8])
    p = np.stack([1.0 - share, share], axis=1)
    expected = np.log(share / (1.0 - share)) / 6.0
    np.testing.assert_allclose(placed(p, Y)[:, 0], expected, atol=1e-13)


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_two_far_groups_share_a_point(rng, shift):
    """Pulled by both, it goes to the border between them; Newton's steps must be shortened."""
    Y = rng.normal(size=(40, 2)) + shift
    Y[20:, 0] += 8.0
    p = np.concatenate([np.full(20, 0.7 / 20), np.full(20, 0.3 / 20)])[np.newaxis]
    (at,) = placed(p, Y)
    np.testing.assert_allclose(gradient(at, p[0], Y), 0.0, atol=GRADIENT)
    assert 2.0 < at[0] - shift < 6.0


def test_an_outlier_of_the_map_changes_nothing_for_others(rng):
    Y = rng.normal(size=(60, 2))
    p = random_rows(rng, 4, 60)
    expected = placed(p, Y)
    far = np.concatenate([Y, [[1e6, -1e6]]])
    found = placed(np.hstack([p, np.zeros((4, 1))]), far)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_all_neighbours_in_one_far_place():
    Y = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1e6, 0.0]])
    np.testing.assert_array_equal(placed(np.array([[0.0, 0.0, 0.0, 1.0]]), Y), [[1e6, 0.0]])


@pytest.mark.parametrize("weight", [0.0, 1e-300, 1e-12, 1e-3])
def test_a_corner_of_the_map_keeps_the_point_beside_it(weight):
    """Its row's cost falls the farther out it goes, for ever where it has one neighbour only."""
    Y = np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [0.1, 0.1]])
    p = np.array([[weight, 0.0, 0.0, 1.0 - weight]])
    (at,) = placed(p, Y)
    offset = at - p[0] @ Y
    assert REACH < np.linalg.norm(offset) < 1.2 * REACH
    np.testing.assert_allclose(offset[0], offset[1], rtol=1e-6)
    assert offset[0] > 0.0


def test_a_step_without_curvature_does_not_throw_the_point_out():
    """All of q is on one point, and the other, far away, pulls with next to nothing."""
    Y = np.array([[0.0, 0.0], [50.0, 0.0]])
    (at,) = placed(np.array([[1.0 - 1e-10, 1e-10]]), Y)
    np.testing.assert_allclose(at, [REACH, 0.0], atol=1e-3)


def test_the_wall_leaves_one_minimum():
    """Where the wall holds a point the two forces balance: the minimum is found, not passed by."""
    Y = np.array([[-50.0, 0.0], [50.0, 0.0], [50.0, 1.0]])
    p = np.array([[0.01, 0.49, 0.5]])
    (at,) = placed(p, Y)
    u = at - p[0] @ Y
    wall = (u @ u - REACH**2) ** 2 / REACH**4 * u
    np.testing.assert_allclose(gradient(at, p[0], Y) / 2.0 + wall, 0.0, atol=GRADIENT)
    assert np.linalg.norm(u) > REACH


@pytest.mark.parametrize("n", [1, 2, 30])
def test_equal_points_take_in_the_new_one(n):
    Y = np.full((n, 2), [3.0, -4.0])
    np.testing.assert_allclose(placed(np.full((1, n), 1.0 / n), Y), Y[:1], rtol=1e-15)


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2])
def test_a_map_on_a_line_keeps_the_point_on_it(rng, angle):
    along = np.array([np.cos(angle), np.sin(angle)])
    Y = rng.normal(size=(40, 1)) * along + [1.0, 2.0]
    p = random_rows(rng, 5, 40)
    found = placed(p, Y) - [1.0, 2.0]
    # The weighted mean is off the line by rounding, and only the damping, a share of a curvature
    # of a few tenths, resists that in each of ten steps.
    off = 100.0 * np.spacing(np.max(np.abs(Y))) / DAMPING
    np.testing.assert_allclose(found @ [-along[1], along[0]], 0.0, atol=off)
    line = (Y - [1.0, 2.0]) @ along
    np.testing.assert_allclose(found @ along, placed(p, line[:, np.newaxis])[:, 0], atol=1e-12)


def test_a_nearly_flat_map(rng):
    Y = rng.normal(size=(40, 2)) * [1.0, 1e-4]
    p = random_rows(rng, 5, 40)
    for row, at in zip(p, placed(p, Y), strict=True):
        u = at - row @ Y
        pull = gradient(at, row, Y) / 2.0 + max(u @ u - REACH**2, 0.0) ** 2 / REACH**4 * u
        np.testing.assert_allclose(pull, 0.0, atol=GRADIENT)


def test_a_row_does_not_depend_on_the_others(rng):
    y = rng.normal(size=(2, 300))
    targets = 0.5 * rng.normal(size=(20, 2))
    whole = place(targets, y)
    np.testing.assert_array_equal(place(targets[7:12], y), whole[7:12])
    targets[3] = np.nan
    found = place(targets, y)
    assert np.isnan(found[3]).all()
    np.testing.assert_array_equal(np.delete(found, 3, axis=0), np.delete(whole, 3, axis=0))


def test_weighted_means(rng):
    Y = rng.normal(size=(50, 3))
    distances = rng.exponential(size=(8, 50))
    precision = rng.exponential(size=8)
    expected = softmax(-precision[:, np.newaxis] * distances, axis=1) @ Y
    found = weighted_means(distances, precision, np.ascontiguousarray(Y.T))
    np.testing.assert_allclose(found, expected, atol=1e-14)
    far = weighted_means(distances + 1e4, precision, np.ascontiguousarray(Y.T))
    np.testing.assert_allclose(far, expected, atol=1e-10)


@pytest.mark.parametrize("n", [10, 1500])
def test_calibration_of_points_that_are_no_columns(rng, n):
    """A first row numbered past the last column leaves no column out."""
    distances = rng.exponential(size=(6, n))
    distances[1] = 2.0
    distances[2, :6] = 0.0
    found = calibrate(distances, n, 5.0)
    excess = distances - found.nearest[:, np.newaxis]
    log_p = -found.precision[:, np.newaxis] * excess - found.log_normaliser[:, np.newaxis]
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1.0, rtol=1e-12)
    reached = np.log([5.0, n, 6.0, 5.0, 5.0, 5.0])
    np.testing.assert_allclose(-np.sum(np.exp(log_p) * log_p, axis=1), reached, atol=1e-10)


def test_inputs_are_left_alone(rng):
    targets, y = rng.normal(size=(5, 2)), rng.normal(size=(2, 30))
    distances, precision = rng.exponential(size=(5, 30)), np.ones(5)
    kept = [a.copy() for a in (targets, y, distances, precision)]
    place(targets, y)
    weighted_means(distances, precision, y)
    for now, before in zip((targets, y, distances, precision), kept, strict=True):
        np.testing.assert_array_equal(now, before)

from itertools import pairwise

import numpy as np
import pytest
from optimise.conftest import never_rises, quadratic, run

from dasksne.optimise.momentum import Momentum, spectral_step_size
from dasksne.optimise.state import state_from_dict, state_to_dict, step
from dasksne.types import Evaluation


@pytest.fixture(scope="module")
def step_size(sne):
    return spectral_step_size(sne.laplacian, sne.n_points)


def test_the_step_size_comes_from_the_largest_eigenvalue(sne, step_size):
    largest = 2.0 * np.linalg.eigvalsh(np.diag(sne.degrees) - sne.affinity)[-1]
    assert step_size == pytest.approx(1.8 / largest, rel=0.05)
    assert step_size >= 1.8 / largest  # power iteration comes from below


def test_the_step_size_of_no_attraction_is_a_number():
    assert spectral_step_size(np.zeros_like, 5) == 1.0


def test_quadratic_ends_at_its_minimum():
    states = run(Momentum(step_size=0.009, jitter=0.0, tol=1e-10), quadratic, np.zeros((20, 2)))
    np.testing.assert_allclose(states[-1].y, 1.0, atol=1e-3)
    assert never_rises(states)


def test_jitter_is_annealed_away_on_sne(sne, step_size, random_map):
    states = run(Momentum(step_size), sne, random_map)
    costs = [state.cost for state in states]
    assert any(b > a for a, b in pairwise(costs[:20]))
    quiet = [state for state in states if state.iteration > 95]
    assert never_rises(quiet)
    assert states[-1].stopped == "the cost has stopped falling"
    assert costs[-1] < 0.5 * costs[0]


def test_jitter_is_a_function_of_seed_and_iteration(sne, step_size, random_map):
    def after(seed):
        return run(Momentum(step_size, max_iter=5, seed=seed), sne, random_map)[-1].y

    np.testing.assert_array_equal(after(1), after(1))
    assert np.max(np.abs(after(1) - after(2))) > 0.01


def test_jitter_has_the_size_asked(sne, random_map):
    optimiser = Momentum(step_size=0.0, jitter=0.3)
    moved = step(optimiser, optimiser.start(random_map, sne(random_map)), sne).y - random_map
    assert np.std(moved) == pytest.approx(0.3, rel=0.1)
    assert abs(np.mean(moved)) < 0.05


def test_resumed_bits_are_the_same(sne, step_size, random_map):
    def through_a_checkpoint(state):
        return state_from_dict(Momentum(step_size).state_type, dict(state_to_dict(state)))

    straight = run(Momentum(step_size, max_iter=130), sne, random_map)
    resumed = run(Momentum(step_size, max_iter=130), sne, random_map, through_a_checkpoint)
    for a, b in zip(straight, resumed, strict=True):
        np.testing.assert_array_equal(a.y, b.y)


def test_a_rise_of_the_cost_halves_the_step_and_is_taken_back():
    optimiser = Momentum(step_size=0.5, jitter=0.0)
    y = np.full((5, 2), 0.999)
    state = optimiser.start(y, quadratic(y))
    after = step(optimiser, state, quadratic)
    assert (after.step_size, after.cost, after.step) == (0.25, state.cost, 0.0)
    np.testing.assert_array_equal(after.y, y)
    np.testing.assert_array_equal(after.velocity, 0.0)
    end = run(optimiser, quadratic, y)[-1]
    assert end.cost < 0.1 * state.cost


def test_a_cost_that_is_not_finite_is_taken_back_under_jitter_too():
    def cliff(y):
        cost, gradient = quadratic(y)
        return Evaluation(np.nan if np.max(y) > 0.5 else cost, gradient)

    states = run(Momentum(step_size=0.004, max_iter=60), cliff, np.zeros((5, 2)))
    assert all(np.isfinite(state.cost) for state in states)
    assert any(state.step_size < 0.004 for state in states)


def test_jitter_is_new_in_each_iteration():
    def flat(y):
        return Evaluation(1.0, np.full_like(y, 1e-300))

    states = run(Momentum(step_size=1.0, jitter_decay=1.0, max_iter=2), flat, np.zeros((300, 2)))
    first, second = states[1].y - states[0].y, states[2].y - states[1].y
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.2


def test_does_not_stop_on_its_cost_before_the_jitter_is_gone(sne, step_size, random_map):
    end = run(Momentum(step_size, tol=0.9, jitter_decay=0.9), sne, random_map)[-1]
    assert 0.9**end.iteration < 0.01


def test_steps_are_bounded():
    def slope(y):
        return Evaluation(float(np.sum(y)), np.ones_like(y))

    y = np.array([[0.0, 0.0], [8.0, 0.0]])
    end = run(Momentum(step_size=1e6, jitter=0.0, max_iter=1), slope, y)[-1]
    assert end.step == pytest.approx(2.0)


def test_gives_up_where_no_step_is_short_enough():
    y = np.array([[0.0, 0.0], [0.5, 0.5]])

    def hole(trial):
        cost, gradient = quadratic(trial)
        return Evaluation(cost if np.array_equal(trial, y) else np.inf, gradient)

    end = run(Momentum(step_size=0.1, jitter=0.0), hole, y)[-1]
    assert end.stopped == "no lower cost was found along the gradient"
    np.testing.assert_array_equal(end.y, y)


@pytest.mark.parametrize("scale", [1e-8, 1e3])
def test_any_scale_of_the_start_stays_finite(sne, step_size, random_map, scale):
    states = run(Momentum(step_size, max_iter=150), sne, scale * random_map)
    assert all(np.isfinite(state.cost) for state in states)
    assert states[-1].cost < 0.8 * states[0].cost

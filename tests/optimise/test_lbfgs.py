from itertools import pairwise

import numpy as np
import pytest
from optimise.conftest import PlainSNE, never_rises, quadratic, rosenbrock, run

from dasksne.optimise.lbfgs import LBFGS
from dasksne.optimise.state import LONGEST_MOVE, extent, state_from_dict, state_to_dict, step
from dasksne.types import Evaluation


def test_quadratic_ends_at_its_minimum():
    states = run(LBFGS(tol=1e-14), quadratic, np.zeros((20, 2)))
    np.testing.assert_allclose(states[-1].y, 1.0, atol=1e-6)
    near = next(state for state in states if state.cost < 1e-12 * states[0].cost)
    assert near.evaluations < 60


def test_rosenbrock_ends_at_its_minimum():
    states = run(LBFGS(tol=1e-12), rosenbrock, np.array([[-1.2, 1.0], [0.0, 0.0], [2.0, -1.0]]))
    assert states[-1].cost < 1e-12
    assert states[-1].evaluations < 300


def test_few_evaluations_on_sne(sne, random_map):
    states = run(LBFGS(), sne, random_map)
    end = states[-1]
    assert end.stopped == "the cost has stopped falling"
    assert never_rises(states)
    assert end.evaluations - 1 <= 1.12 * end.iteration
    assert np.max(np.abs(end.gradient)) < 0.01 * np.max(np.abs(states[0].gradient))


def test_counts_every_evaluation(sne, random_map):
    calls = []

    def counted(y):
        calls.append(1)
        return sne(y)

    end = run(LBFGS(), counted, random_map)[-1]
    assert end.evaluations == len(calls)


def test_resumed_bits_are_the_same(sne, random_map):
    def through_a_checkpoint(state):
        values = {
            name: np.array(value) if isinstance(value, (np.ndarray, tuple)) else value
            for name, value in state_to_dict(state).items()
        }
        return state_from_dict(LBFGS().state_type, values)

    straight = run(LBFGS(max_iter=30), sne, random_map)
    resumed = run(LBFGS(max_iter=30), sne, random_map, through_a_checkpoint)
    assert len(straight) == len(resumed)
    for a, b in zip(straight, resumed, strict=True):
        assert a.cost == b.cost
        np.testing.assert_array_equal(a.y, b.y)


def test_a_state_is_never_changed(sne, random_map):
    optimiser = LBFGS()
    state = optimiser.start(random_map, sne(random_map))
    for _ in range(15):
        before = {
            name: np.copy(value)
            for name, value in state_to_dict(state).items()
            if name != "stopped"
        }
        following = step(optimiser, state, sne)
        for name, value in before.items():
            np.testing.assert_array_equal(getattr(state, name), value)
        state = following


@pytest.mark.parametrize("factor", [1e-9, 1e9])
def test_stopping_does_not_depend_on_the_scale_of_the_cost(sne, random_map, factor):
    def scaled(y):
        evaluation = sne(y)
        return Evaluation(factor * evaluation.cost, factor * evaluation.gradient)

    plain, other = run(LBFGS(), sne, random_map)[-1], run(LBFGS(), scaled, random_map)[-1]
    assert other.stopped == plain.stopped
    assert other.cost == pytest.approx(factor * plain.cost, rel=0.05)


class TestStops:
    def test_at_max_iter(self, sne, random_map):
        end = run(LBFGS(max_iter=3), sne, random_map)[-1]
        assert (end.iteration, end.stopped) == (3, "max_iter reached")

    def test_at_once_with_no_iterations(self, sne, random_map):
        end = LBFGS(max_iter=0).start(random_map, sne(random_map))
        assert end.stopped == "max_iter reached"

    def test_where_the_gradient_is_zero(self):
        y = np.ones((3, 2))
        assert LBFGS().start(y, quadratic(y)).stopped == "the gradient is zero"

    def test_at_a_start_that_is_not_finite(self):
        y = np.ones((3, 2))
        state = LBFGS().start(y, Evaluation(np.nan, y))
        assert state.stopped == "the cost or its gradient is not finite"

    def test_where_the_gradient_points_uphill(self):
        def wrong(y):
            cost, gradient = quadratic(y)
            return Evaluation(cost, -gradient)

        end = run(LBFGS(), wrong, np.zeros((3, 2)))[-1]
        assert end.stopped == "no lower cost was found along the gradient"
        np.testing.assert_array_equal(end.y, 0.0)

    def test_where_nothing_moves(self):
        # A cost that ends at zero never stops falling, relative to itself.
        end = run(LBFGS(tol=0.0), rosenbrock, np.array([[0.0, 3.0], [0.5, 0.5]]))[-1]
        assert end.stopped in {"the points have stopped moving", "the gradient is zero"}

    def test_where_the_last_step_ends_on_the_minimum(self):
        end = run(LBFGS(tol=0.0), lambda y: quadratic(y[:1]), np.array([[0.0, 3.0]]))[-1]
        assert end.stopped == "the gradient is zero"

    def test_only_once(self, sne, random_map):
        optimiser = LBFGS(max_iter=1)
        end = run(optimiser, sne, random_map)[-1]
        assert step(optimiser, end, sne) is end


def test_steps_are_bounded(sne, random_map):
    states = run(LBFGS(), sne, 1e-2 * random_map)
    for before, after in pairwise(states):
        assert after.step <= (1 + 1e-12) * LONGEST_MOVE * max(1.0, extent(before.y))


def test_bad_curvature_restarts_from_the_gradient(sne, random_map):
    optimiser = LBFGS()
    state = run(LBFGS(max_iter=8), sne, random_map)[-1]
    assert len(state.steps) == 8
    # Pairs that turn the direction uphill, as after a jump of the cost's noise.
    values = {**state_to_dict(state), "changes": -np.array(state.changes), "stopped": None}
    poisoned = state_from_dict(optimiser.state_type, values)
    restarted = step(optimiser, poisoned, sne)
    assert len(restarted.steps) == 0
    assert restarted.stopped is None
    assert step(optimiser, restarted, sne).cost < state.cost


def test_degrees_make_data_with_hubs_easy():
    x = np.random.default_rng(0).standard_normal((200, 100))
    objective = PlainSNE(x, 10.0)
    assert objective.degrees.max() > 10 * objective.degrees.min()
    y = np.random.default_rng(1).standard_normal((200, 2))
    plain = run(LBFGS(), objective, y)[-1]
    scaled = run(LBFGS(degrees=objective.degrees), objective, y)[-1]
    assert scaled.evaluations < 0.75 * plain.evaluations
    assert scaled.cost < 1.002 * plain.cost


def test_the_first_direction_is_the_gradient_over_the_attractions_curvature(sne, random_map):
    optimiser = LBFGS(degrees=sne.degrees)
    start = optimiser.start(1e-3 * random_map, sne(1e-3 * random_map))
    move = step(optimiser, start, sne).y - start.y
    expected = -start.gradient / sne.degrees[:, np.newaxis]
    np.testing.assert_allclose(move / move[0, 0], expected / expected[0, 0], rtol=1e-9)


def test_a_pair_without_curvature_is_not_kept():
    def slope(y):  # concave everywhere: no pair can be kept
        return Evaluation(float(-np.sum(y**2)), -2.0 * y)

    optimiser = LBFGS()
    y = np.array([[1.0, 0.0], [0.0, 1.0]])
    state = step(optimiser, optimiser.start(y, slope(y)), slope)
    assert state.iteration == 1
    assert len(state.steps) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["cost", "gradient"])
def test_a_trial_that_is_not_finite_is_shortened(bad, where):
    def cliff(y):
        cost, gradient = quadratic(y)
        if np.max(y) > 0.9:  # the way to the minimum at 1 ends here
            cost = bad if where == "cost" else cost
            gradient = np.full_like(gradient, bad) if where == "gradient" else gradient
        return Evaluation(cost, gradient)

    states = run(LBFGS(), cliff, np.zeros((4, 2)))
    assert all(np.isfinite(state.cost) and np.all(np.isfinite(state.y)) for state in states)
    assert states[-1].cost < 0.7 * states[0].cost


def test_noise_in_the_cost_does_not_stop_the_search(sne, random_map):
    def noisy(y):
        cost, gradient = sne(y)
        return Evaluation(cost * (1 + 5e-9 * np.sin(1e12 * cost)), gradient)

    clean, end = run(LBFGS(), sne, random_map)[-1], run(LBFGS(), noisy, random_map)[-1]
    assert end.stopped == "the cost has stopped falling"
    assert end.evaluations <= 1.3 * clean.evaluations
    assert end.cost == pytest.approx(clean.cost, rel=0.02)


STARTS = {
    "tiny": lambda y: 1e-8 * y,
    "huge": lambda y: 1e3 * y,
    "collinear": lambda y: np.stack([y[:, 0], 2.0 * y[:, 0]], axis=1),
    "nearly equal": lambda y: 3.0 + 1e-12 * y,
    "outlier": lambda y: np.concatenate([[[1e3, -1e3]], y[1:]]),
}


@pytest.mark.parametrize("name", STARTS)
def test_any_start_stays_finite_and_falls(sne, random_map, name):
    states = run(LBFGS(max_iter=60), sne, STARTS[name](random_map))
    assert all(
        np.isfinite(state.cost) and np.isfinite(state.step) and np.all(np.isfinite(state.y))
        for state in states
    )
    assert never_rises(states)
    assert states[-1].cost < 0.8 * states[0].cost


def test_two_points():
    objective = PlainSNE(np.array([[0.0, 0.0], [1.0, 1.0], [5.0, 0.0]]), 1.5)
    end = run(LBFGS(), objective, np.array([[0.0, 0.0], [0.1, 0.1], [0.0, 0.2]]))[-1]
    assert end.stopped is not None
    assert np.isfinite(end.cost)

from dataclasses import replace

import numpy as np
import pytest
from optimise.conftest import run

from dasksne.optimise.lbfgs import LBFGS
from dasksne.optimise.race import (
    BEHIND,
    FINALISTS,
    HEAT,
    PATIENCE,
    SAME,
    TWIN,
    is_open,
    leader,
    leave_behind,
)
from dasksne.optimise.state import WINDOW, step_all
from dasksne.types import Evaluation


def running(cost, fall, iterations=WINDOW, y=None):
    """A state whose cost has fallen by so much over its last iterations, on a map of its own."""
    y = cost * np.eye(2) if y is None else y
    state = LBFGS().start(y, Evaluation(cost, np.ones_like(y)))
    return replace(state, recent_costs=np.linspace(cost + fall, cost, iterations + 1))


def test_one_that_falls_too_slowly_is_left_behind():
    near, far = 0.99 * PATIENCE, 1.01 * PATIENCE
    states = [running(10.0, 0.0), running(10.0 + near, 1.0), running(10.0 + far, 1.0)]
    found = leave_behind(states)
    assert [state.stopped for state in found] == [None, None, BEHIND]
    assert found[0] is states[0]


def test_the_lowest_go_on_after_the_heat():
    def states(iteration):
        costs = [17.0, 11.0, 10.0, np.nan, 13.0, 16.0, 12.0]
        return [replace(running(cost, 9.0), iteration=iteration) for cost in costs]

    found = [state.stopped for state in leave_behind(states(HEAT))]
    assert found == [BEHIND, None, None, BEHIND, None, BEHIND, None]
    assert found.count(None) == FINALISTS
    early = [state.stopped for state in leave_behind(states(HEAT - 1))]
    assert early == [None, None, None, BEHIND, None, None, None]
    ended = [replace(state, stopped="done") for state in states(HEAT)]
    assert [state.stopped for state in leave_behind(ended)].count(BEHIND) == 1  # the NaN


def test_nobody_is_judged_before_there_is_a_window():
    states = [running(10.0, 0.0, 1), running(99.0, 0.0, WINDOW - 1)]
    assert all(state.stopped is None for state in leave_behind(states))


def test_of_equal_ones_the_first_leads():
    states = [
        running(np.nan, 0.0, y=np.eye(2)),
        running(3.0, 0.0),
        running(3.0, 1.0, y=np.array([[0.0, 7.0], [1.0, 0.0]])),
    ]
    assert leader(states) is states[1]
    assert [state.stopped for state in leave_behind(states)] == [BEHIND, None, None]


def test_the_same_map_turned_or_mirrored_does_not_go_on(rng):
    y = rng.normal(size=(60, 2))
    y[0] = y[1:].mean(axis=0)  # to be moved away from the centre
    turned = (y + 5.0) @ np.array([[0.6, 0.8], [0.8, -0.6]])
    length = np.ptp(y, axis=0).max()
    near, far = turned.copy(), turned.copy()
    near[0, 0] += 0.9 * SAME * length
    far[0, 0] += 1.3 * SAME * length
    states = [running(10.0, 1.0, y=y), *(running(10.5, 1.0, y=z) for z in (turned, near, far))]
    assert [state.stopped for state in leave_behind(states)] == [None, TWIN, TWIN, None]
    early = [running(10.0, 1.0, y=y), running(10.5, 1.0, WINDOW - 1, y=turned)]
    assert [state.stopped for state in leave_behind(early)] == [None, None]


def test_points_as_far_from_the_centre_elsewhere_make_another_map():
    turn = np.linspace(0.0, 2.0 * np.pi, 12, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    states = [
        running(10.0, 1.0, y=ring),
        running(10.5, 1.0, y=ring[[5, 2, 8, 0, 11, 3, *range(6)]]),
    ]
    assert [state.stopped for state in leave_behind(states)] == [None, None]


def test_what_is_left_behind_gives_its_pairs_up():
    pair = (np.ones((2, 2)),)
    states = [replace(running(cost, 0.1), steps=pair, changes=pair) for cost in (10.0, 90.0)]
    first, left = leave_behind(states)
    assert left.stopped == BEHIND
    assert (first.steps, left.steps, left.changes) == (pair, (), ())


def test_it_is_over_when_only_the_leader_runs():
    first, second = running(1.0, 0.5), running(2.0, 0.5)
    assert is_open([first, second])
    assert not is_open([first, replace(second, stopped="done")])
    assert is_open([replace(first, stopped="done"), second])
    assert not is_open([first])


@pytest.mark.parametrize("seeds", [range(1), range(4)])
def test_steps_side_by_side_are_those_that_each_takes_alone(sne, seeds):
    """Whatever the number of evaluations that a step needs."""
    optimiser = LBFGS(max_iter=40)
    maps = [10.0**seed * np.random.default_rng(seed).standard_normal((150, 2)) for seed in seeds]
    asked = []

    def evaluate_all(several):
        asked.append(len(several))
        return [sne(y) for y in several]

    states = [optimiser.start(y, sne(y)) for y in maps]
    while any(state.stopped is None for state in states):
        states = step_all(optimiser, states, evaluate_all)
    alone = [run(optimiser, sne, y)[-1] for y in maps]
    for found, expected in zip(states, alone, strict=True):
        np.testing.assert_array_equal(found.y, expected.y)
        assert (found.cost, found.evaluations) == (expected.cost, expected.evaluations)
    assert sum(asked) == sum(state.evaluations - 1 for state in alone)
    assert len(asked) < 1.3 * max(state.evaluations for state in alone)


def test_nothing_is_evaluated_for_those_that_have_stopped(sne, random_map):
    end = run(LBFGS(max_iter=2), sne, random_map)[-1]
    assert step_all(LBFGS(), [end, end], None) == [end, end]

import json
from dataclasses import fields

import numpy as np
import pytest
from optimise.conftest import run

from dasksne.optimise.lbfgs import LBFGS, LBFGSState
from dasksne.optimise.momentum import Momentum
from dasksne.optimise.state import (
    State,
    concluded,
    extent,
    inner,
    largest_move,
    state_from_dict,
    state_to_dict,
)


@pytest.mark.parametrize("optimiser", [LBFGS(max_iter=4), Momentum(0.1, max_iter=4)])
def test_round_trip_by_plain_values(optimiser, sne, random_map):
    state = run(optimiser, sne, random_map)[-1]
    values = state_to_dict(state)
    plain = {}
    for name, value in values.items():
        if isinstance(value, (np.ndarray, tuple)):
            whole = np.asarray(value)
            assert whole.flags.c_contiguous
            assert whole.dtype == np.float64
            plain[name] = np.frombuffer(whole.tobytes()).reshape(whole.shape)
        else:
            assert type(value) in {int, float, str, type(None)}
            plain[name] = json.loads(json.dumps(value))
    back = state_from_dict(optimiser.state_type, plain)
    for field in fields(back):
        np.testing.assert_array_equal(getattr(back, field.name), values[field.name])


def test_every_state_has_the_common_fields():
    common = {field.name for field in fields(State)}
    for kind in (LBFGS().state_type, Momentum(0.1).state_type):
        assert common < {field.name for field in fields(kind)}


def test_fields_of_another_optimiser_are_refused(sne, random_map):
    values = state_to_dict(run(Momentum(0.1, max_iter=1), sne, random_map)[-1])
    with pytest.raises(ValueError, match=r"missing \['changes', 'steps'\].*'velocity'"):
        state_from_dict(LBFGSState, values)


def test_a_map_in_any_memory_order_gives_the_same_bits(sne, random_map):
    a = run(LBFGS(max_iter=5), sne, random_map)[-1]
    b = run(LBFGS(max_iter=5), sne, np.asfortranarray(random_map))[-1]
    np.testing.assert_array_equal(a.y, b.y)


def test_stopping_looks_at_the_fall_over_the_window(random_map):
    def reason(costs, step=0.1, iteration=9):
        state = State(
            y=random_map,
            cost=costs[-1],
            gradient=random_map,
            iteration=iteration,
            evaluations=iteration,
            step=step,
            stopped=None,
            recent_costs=np.array(costs),
        )
        return concluded(state, max_iter=10, tol=1e-3).stopped

    assert reason([2.0, 1.9, 1.8, 1.7, 1.6, 1.5]) is None
    assert reason([1.5, 1.5]) is None  # too early to say
    assert reason([1.5011, 1.5, 1.5, 1.5, 1.5, 1.5]) == "the cost has stopped falling"
    assert reason([1.5016, 1.5, 1.5, 1.5, 1.5, 1.5]) is None
    assert reason([2.0, 1.0], step=1e-11) == "the points have stopped moving"
    assert reason([2.0, 1.0], iteration=10) == "max_iter reached"
    assert reason([2.0, np.nan]) == "the cost or its gradient is not finite"


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_largest_move_neither_overflows_nor_vanishes(scale):
    assert largest_move(scale * np.array([[0.3, 0.0], [0.3, 0.4]])) == pytest.approx(0.5 * scale)


def test_largest_move_of_nothing_and_of_what_is_not_finite():
    assert largest_move(np.zeros((3, 2))) == 0.0
    assert not np.isfinite(largest_move(np.array([[np.inf, 0.0]])))


def test_extent_and_inner():
    assert extent(np.array([[0.0, 5.0], [3.0, 7.0]])) == 3.0
    assert inner(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])) == 11.0

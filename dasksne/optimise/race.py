"""Several starts at once, of which those that fall too slowly to win are left behind."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from dasksne.optimise.state import WINDOW, State

PATIENCE = 6.0
"""Times its fall over the last iterations: how far below its cost a map is trusted to come. (Of 14
data sets, 3 still left the later winner behind on one, 4 on none; 12 costs a few iterations.)"""
BEHIND = "left behind by another start"

S = TypeVar("S", bound=State)


def leave_behind(states: Sequence[S]) -> list[S]:
    """Return the states, those stopped that will not come below the lowest, as they fall now.

    A state is judged once it has WINDOW iterations to be judged by.

    Examples
    --------
    >>> import numpy as np
    >>> from dasksne.optimise.lbfgs import LBFGS
    >>> from dasksne.types import Evaluation
    >>> states = [
    ...     replace(LBFGS().start(np.eye(2), Evaluation(cost, np.eye(2), np.zeros(2))),
    ...             recent_costs=np.linspace(cost + fall, cost, 6))
    ...     for cost, fall in [(10.0, 0.0), (12.0, 1.0), (12.0, 0.1)]
    ... ]
    >>> [state.stopped for state in leave_behind(states)]
    [None, None, 'left behind by another start']
    """
    lowest = leader(states).cost
    return [replace(s, stopped=BEHIND) if _is_behind(s, lowest) else s for s in states]


def leader(states: Sequence[S]) -> S:
    """Return the state with the lowest cost; of equal ones, the first."""
    return min(states, key=lambda state: (np.isnan(state.cost), state.cost))


def is_open(states: Sequence[State]) -> bool:
    """Say whether any but the leader still runs."""
    first = leader(states)
    return any(state.stopped is None and state is not first for state in states)


def _is_behind(state: State, lowest: float) -> bool:
    if state.recent_costs.size <= WINDOW or state.cost <= lowest:
        return False
    fall = float(state.recent_costs[0]) - state.cost
    return not state.cost - PATIENCE * fall < lowest

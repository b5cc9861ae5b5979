"""Several starts at once, of which those that fall too slowly to win are left behind."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from dasksne.optimise.state import WINDOW, State, extent
from dasksne.types import FloatArray

PATIENCE = 6.0
"""Times its fall over the last iterations: how far below its cost a map is trusted to come. (Of 14
data sets, 3 still left the later winner behind on one, 4 on none; 12 costs a few iterations.)"""
HEAT = 10
FINALISTS = 4
"""Iterations after which no more than so many go on, the lowest. (A helix of 600 points,
init="best": 2.8 nats with it; 3.7 where seven go on until each has fallen behind.)"""
BEHIND = "left behind by another start"
SAME = 0.05
"""Of the map's extent: two maps in which no point is farther from where the other has it are one,
turned or mirrored. (Of 25 data sets, none loses a better map by it up to 0.08; at 0.12 one does,
where only distances from the centre are compared. init="best" on iris, perplexity 40, takes 275
evaluations.)"""
TWIN = "came to the map of another start"

S = TypeVar("S", bound=State)


def leave_behind(states: Sequence[S], counts: FloatArray | None = None) -> list[S]:
    """Return the states, those stopped that will not come below the lowest, as they fall now.

    Nor does one go on whose map is the lowest one's. A state is judged once it has WINDOW
    iterations to be judged by, and after HEAT iterations the FINALISTS lowest go on. The centre of
    a map is that of points that count so often, or once.

    Examples
    --------
    >>> from dataclasses import replace
    >>> import numpy as np
    >>> from dasksne.optimise.lbfgs import LBFGS
    >>> from dasksne.types import Evaluation
    >>> states = [
    ...     replace(LBFGS().start(cost * np.eye(2), Evaluation(cost, np.eye(2))),
    ...             recent_costs=np.linspace(cost + fall, cost, 6))
    ...     for cost, fall in [(10.0, 0.0), (12.0, 1.0), (12.0, 0.1)]
    ... ]
    >>> [state.stopped for state in leave_behind(states)]
    [None, None, 'left behind by another start']
    """
    first = leader(states)
    left = [
        s.left(reason) if s is not first and (reason := _reason_to_leave(s, first, counts)) else s
        for s in states
    ]
    racing = sorted((s.stopped in (BEHIND, TWIN), *by_cost(s), k) for k, s in enumerate(left))
    for *_, k in racing[FINALISTS:]:
        if left[k].stopped is None and left[k].iteration >= HEAT:
            left[k] = left[k].left(BEHIND)
    return left


def leader(states: Sequence[S]) -> S:
    """Return the state with the lowest cost; of equal ones, the first."""
    return min(states, key=by_cost)


def by_cost(state: State) -> tuple[bool, float]:
    """Return what orders states: the lowest cost comes first, one that is not a number last."""
    return bool(np.isnan(state.cost)), state.cost


def is_open(states: Sequence[State]) -> bool:
    """Say whether any but the leader still runs."""
    first = leader(states)
    return any(state.stopped is None and state is not first for state in states)


def _reason_to_leave(state: State, first: State, counts: FloatArray | None) -> str | None:
    if state.recent_costs.size <= WINDOW:
        return None
    fall = float(state.recent_costs[0]) - state.cost
    if not state.cost - PATIENCE * fall < first.cost and not state.cost <= first.cost:
        return BEHIND
    return TWIN if _are_same(state.y, first.y, counts) else None


def _are_same(y: FloatArray, other: FloatArray, counts: FloatArray | None) -> bool:
    """Say whether a map, turned or mirrored as fits best (Procrustes), is another one."""
    y = y - np.average(y, axis=0, weights=counts)
    other = other - np.average(other, axis=0, weights=counts)
    weighted = y if counts is None else counts[:, np.newaxis] * y
    if not np.all(np.isfinite(weighted)):
        return False
    left, _, right = np.linalg.svd(np.einsum("ij,ik->jk", weighted, other))
    change = np.einsum("ij,jk->ik", y, left @ right) - other
    return bool(np.max(np.sum(change**2, axis=1)) <= (SAME * extent(other)) ** 2)

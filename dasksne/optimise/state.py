"""The state of an optimiser, as a value that goes to a checkpoint and comes back bit for bit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, Self, TypeAlias, TypeVar, get_origin

import numpy as np

from dasksne.types import Asking, Evaluation, FloatArray, Objective, ObjectiveOfAll

StateValue: TypeAlias = FloatArray | tuple[FloatArray, ...] | int | float | str | None

WINDOW = 5
"""Iterations over which the fall of the cost is judged: one short step is no reason to stop."""
STILL = 1e-10
"""A largest move, as a share of the map's extent, below which the map has come to rest."""

LONGEST_MOVE = 0.25
"""Of a point in one step, as a share of the map's extent."""
SMALLEST_EXTENT = 1.0
"""The kernel exp(-|y|^2) has width one: a smaller map may grow by steps of that size."""
NOISE = 1e-8
"""Relative: a rise of the cost by less than this says nothing."""


@dataclass(frozen=True)
class State:
    """What every optimiser knows after an iteration.

    Its fields, and those that an optimiser adds, are arrays, tuples of equally large ones, numbers,
    text or None: nothing that a checkpoint could not hold.
    """

    y: FloatArray
    """The map, shape (N, d), float64."""
    cost: float
    """The cost at y, in nats."""
    gradient: FloatArray
    """dC/dY at y, shape (N, d)."""
    iteration: int
    """Iterations done."""
    evaluations: int
    """Evaluations of the objective, that of the start included."""
    step: float
    """Largest distance that a point moved in the last iteration."""
    stopped: str | None
    """Why the optimiser is done, in words; None while it is not."""
    recent_costs: FloatArray
    """Costs of the last iterations, the oldest first; at most WINDOW + 1."""

    def left(self, reason: str) -> Self:
        """Return the state stopped for good; what only further steps need is given up."""
        return replace(self, stopped=reason)


S = TypeVar("S", bound=State)


class Optimiser(Protocol[S]):
    """Settings that turn a state into the next one.

    The same state and objective give the same bits, whether or not the state has been to a
    checkpoint in between.
    """

    @property
    def state_type(self) -> type[S]:
        """The state's class: what `state_from_dict` needs to read a checkpoint."""
        ...

    def start(self, y: FloatArray, evaluation: Evaluation) -> S:
        """Return the state at a first map, shape (N, d), whose evaluation is known."""
        ...

    def asking_step(self, state: S) -> Asking[S]:
        """Return the state one iteration on, asking for evaluations on the way.

        A state that has stopped comes back as it is, and nothing is asked.
        """
        ...


def step(optimiser: Optimiser[S], state: S, objective: Objective) -> S:
    """Return the state one iteration on; a state that has stopped comes back as it is."""
    (following,) = step_all(optimiser, [state], lambda maps: [objective(maps[0])])
    return following


def step_all(optimiser: Optimiser[S], states: Sequence[S], evaluate_all: ObjectiveOfAll) -> list[S]:
    """Return each state one iteration on, as `step` does; what they ask for is evaluated together.

    Parameters
    ----------
    optimiser : Optimiser
    states : sequence of State
    evaluate_all : callable
        Several maps to an Evaluation each.
    """
    asking = {k: optimiser.asking_step(state) for k, state in enumerate(states)}
    answers: dict[int, Evaluation | None] = dict.fromkeys(asking)
    following = dict(enumerate(states))
    while answers:
        maps: dict[int, FloatArray] = {}
        for k, answer in answers.items():
            try:
                maps[k] = asking[k].send(answer)  # type: ignore[arg-type] # None at first
            except StopIteration as end:
                following[k] = end.value
        found = evaluate_all(list(maps.values())) if maps else []
        answers = dict(zip(maps, found, strict=True))
    return list(following.values())


def state_to_dict(state: State) -> dict[str, StateValue]:
    """Return the fields of a state by name; nothing is copied.

    Examples
    --------
    >>> import numpy as np
    >>> from dasksne.optimise.lbfgs import LBFGS, LBFGSState
    >>> from dasksne.types import Evaluation
    >>> objective = lambda y: Evaluation(float(np.sum(y * y)), 2 * y)
    >>> y = np.array([[3.0, 4.0]])
    >>> state = LBFGS().start(y, objective(y))
    >>> values = state_to_dict(state)
    >>> values["cost"], values["stopped"]
    (25.0, None)
    >>> state_from_dict(LBFGSState, values).cost
    25.0
    """
    return {field.name: getattr(state, field.name) for field in fields(state)}


def state_from_dict(kind: type[S], values: Mapping[str, StateValue]) -> S:
    """Return the state of a class from its fields; a tuple may have become one array.

    Raises
    ------
    ValueError
        A field is missing or unknown: the values belong to another optimiser or version.
    """
    names = {field.name for field in fields(kind)}
    if names != set(values):
        raise ValueError(
            f"cannot restore {kind.__name__}: missing {sorted(names - set(values))}, "
            f"unknown {sorted(set(values) - names)}"
        )
    of_arrays = {field.name for field in fields(kind) if get_origin(field.type) is tuple}
    given = {
        name: tuple(value) if name in of_arrays else value  # type: ignore[arg-type]
        for name, value in values.items()
    }
    return kind(**given)  # type: ignore[arg-type]


def concluded(state: S, max_iter: int, tol: float) -> S:
    """Return the state with the reason to stop, if there is one.

    Parameters
    ----------
    state : State
    max_iter : int
    tol : float
        Relative fall of the cost over WINDOW iterations at which it has stopped falling.
    """
    return replace(state, stopped=_reason_to_stop(state, max_iter, tol))


def _reason_to_stop(state: State, max_iter: int, tol: float) -> str | None:
    if not (np.isfinite(state.cost) and np.all(np.isfinite(state.gradient))):
        return "the cost or its gradient is not finite"
    if not np.any(state.gradient):
        return "the gradient is zero"
    fall = float(state.recent_costs[0]) - state.cost
    if state.recent_costs.size > WINDOW and fall <= tol * abs(state.cost):
        return "the cost has stopped falling"
    if state.iteration > 0 and state.step <= STILL * extent(state.y):
        return "the points have stopped moving"
    if state.iteration >= max_iter:
        return "max_iter reached"
    return None


def extent(y: FloatArray) -> float:
    """Return the longest side of the box around a map."""
    return float(np.max(np.max(y, axis=0) - np.min(y, axis=0)))


def longest_move(y: FloatArray) -> float:
    """Return how far a point of a map may move in one step."""
    return LONGEST_MOVE * max(extent(y), SMALLEST_EXTENT)


def spread(y: FloatArray, counts: FloatArray | None = None) -> FloatArray:
    """Return the standard deviation of each column, of rows that count so often, or once."""
    if counts is None:
        return np.asarray(np.std(y, axis=0))
    centred = y - np.average(y, axis=0, weights=counts)
    return np.asarray(np.sqrt(np.average(centred**2, axis=0, weights=counts)))


def largest_move(change: FloatArray) -> float:
    """Return the largest Euclidean length of a row."""
    # Scaled first, so that no square overflows or vanishes.
    scale = float(np.max(np.abs(change)))
    if not 0.0 < scale < np.inf:
        return scale
    return scale * float(np.sqrt(np.max(np.sum((change / scale) ** 2, axis=1))))


def inner(a: FloatArray, b: FloatArray) -> float:
    """Return sum(a * b); not by BLAS, whose bits depend on its threads."""
    return float(np.sum(a * b))


def is_finite(evaluation: Evaluation) -> bool:
    """Say whether a trial may be used at all."""
    return bool(np.isfinite(evaluation.cost) and np.all(np.isfinite(evaluation.gradient)))

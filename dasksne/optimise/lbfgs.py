"""Limited-memory BFGS with bounded steps, as a value that steps."""

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from dasksne.optimise.line_search import Refused, search
from dasksne.optimise.state import (
    WINDOW,
    State,
    concluded,
    inner,
    largest_move,
    longest_move,
)
from dasksne.types import Asking, Evaluation, FloatArray

MEAN_DEGREE = 2.0
"""Of S = P + P^T, whatever the data: rows of P sum to one."""
SMALLEST_CURVATURE = 1e-10
"""A pair (s, y) is kept if s.y > this times |s| |y|."""


@dataclass(frozen=True)
class LBFGSState(State):
    """`State`, and the last pairs of steps and changes of the gradient, the oldest first."""

    steps: tuple[FloatArray, ...]
    """y_{k+1} - y_k, shape (N, d) each; the states before and after share them."""
    changes: tuple[FloatArray, ...]
    """gradient_{k+1} - gradient_k, shape (N, d) each."""

    def left(self, reason: str) -> Self:
        """Return the state stopped, without the pairs."""
        return replace(self, stopped=reason, steps=(), changes=())


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS: two-loop recursion, weak Wolfe line search, bounded steps.

    Parameters
    ----------
    max_iter : int
        Iterations; about 1.05 evaluations each.
    tol : float
        Relative fall of the cost over 5 iterations below which it stops.
    memory : int
        Pairs kept: 2 * memory arrays of the map's size. (A helix of 600 points ends, after as many
        evaluations, at 2.6 nats with 20 and at 3.8 with 10; iris at perplexity 5 takes 321 and 385.
        What is not drawn out takes as many with either: digits 207.)
    degrees : array of shape (N,), optional
        Sums of the rows of S = P + P^T; 2 for every point, their mean, unless given.

    Notes
    -----
    The cost's attraction has a Hessian with the diagonal 2 * degrees. Its inverse is where the
    approximation of the inverse Hessian begins. Data with hubs, points that are neighbours of very
    many others, needs that: 1,000 points of a 100-dimensional Gaussian have degrees from 1 to 43,
    and take a third of the evaluations.

    The pairs are forgotten, and the next step goes down the gradient, where the direction does not
    point downhill or the line search along it fails.

    References
    ----------
    J. Nocedal and S. J. Wright, "Numerical Optimization" (2006), algorithms 7.4 and 7.5.

    Examples
    --------
    >>> import numpy as np
    >>> from dasksne.optimise.state import step
    >>> from dasksne.types import Evaluation
    >>> target = np.array([[1.0, 2.0], [3.0, 5.0]])
    >>> def objective(y):
    ...     return Evaluation(float(np.sum((y - target) ** 2)), 2 * (y - target))
    >>> optimiser = LBFGS(max_iter=50)
    >>> state = optimiser.start(np.zeros((2, 2)), objective(np.zeros((2, 2))))
    >>> while state.stopped is None:
    ...     state = step(optimiser, state, objective)
    >>> bool(np.allclose(state.y, target))
    True
    """

    max_iter: int = 240
    tol: float = 3e-7
    memory: int = 20
    degrees: FloatArray | None = field(default=None, repr=False, compare=False)

    @property
    def state_type(self) -> type[LBFGSState]:
        """The class of this optimiser's states."""
        return LBFGSState

    def start(self, y: FloatArray, evaluation: Evaluation) -> LBFGSState:
        """Return the state at a first map, shape (N, d), whose evaluation is known."""
        y = np.array(y, dtype=np.float64, order="C")
        state = LBFGSState(
            y=y,
            cost=float(evaluation.cost),
            gradient=np.array(evaluation.gradient, dtype=np.float64, order="C"),
            iteration=0,
            evaluations=1,
            step=0.0,
            stopped=None,
            recent_costs=np.array([evaluation.cost], dtype=np.float64),
            steps=(),
            changes=(),
        )
        return concluded(state, self.max_iter, self.tol)

    def asking_step(self, state: LBFGSState) -> Asking[LBFGSState]:
        """Return the state one iteration on, asking for evaluations; see `Optimiser`."""
        if state.stopped is not None:
            return state
        direction = -_inverse_hessian_product(state, self._inverse_diagonal())
        slope = inner(state.gradient, direction)
        if not slope < 0.0:
            return self._restart(state, 0)
        longest = longest_move(state.y) / largest_move(direction)
        if longest < 1.0:
            direction, slope, longest = longest * direction, longest * slope, 1.0
        found = yield from search(state.y, state.cost, direction, slope=slope, longest=longest)
        if isinstance(found, Refused):
            return self._restart(state, found.evaluations)
        return self._advance(state, found.y, found.evaluation, found.evaluations)

    def _advance(
        self, state: LBFGSState, y: FloatArray, evaluation: Evaluation, evaluations: int
    ) -> LBFGSState:
        gradient = np.array(evaluation.gradient, dtype=np.float64, order="C")
        step, change = y - state.y, gradient - state.gradient
        steps, changes = state.steps, state.changes
        curved = inner(step, change)
        if curved > SMALLEST_CURVATURE * np.sqrt(inner(step, step) * inner(change, change)):
            steps = (*steps, step)[-self.memory :]
            changes = (*changes, change)[-self.memory :]
        recent = np.append(state.recent_costs, evaluation.cost)[-(WINDOW + 1) :]
        new = LBFGSState(
            y=y,
            cost=float(evaluation.cost),
            gradient=gradient,
            iteration=state.iteration + 1,
            evaluations=state.evaluations + evaluations,
            step=largest_move(step),
            stopped=None,
            recent_costs=recent,
            steps=steps,
            changes=changes,
        )
        return concluded(new, self.max_iter, self.tol)

    def _restart(self, state: LBFGSState, evaluations: int) -> LBFGSState:
        """Forget the pairs; without any, the gradient itself led nowhere and all is done."""
        stopped = None if len(state.steps) else "no lower cost was found along the gradient"
        return replace(
            state,
            evaluations=state.evaluations + evaluations,
            stopped=stopped,
            steps=(),
            changes=(),
        )

    def _inverse_diagonal(self) -> FloatArray | float:
        """Return the inverse of the attraction's own curvature, one number a point."""
        if self.degrees is None:
            return 0.5 / MEAN_DEGREE
        return 0.5 / np.asarray(self.degrees, dtype=np.float64)[:, np.newaxis]


def _inverse_hessian_product(state: LBFGSState, inverse_diagonal: FloatArray | float) -> FloatArray:
    """Return H g by the two-loop recursion, H from the pairs, g the gradient.

    Without pairs H is the inverse diagonal; with pairs, a multiple of it that fits the last one.
    """
    product = state.gradient.copy()
    pairs = list(zip(state.steps, state.changes, strict=True))
    curvatures = [inner(step, change) for step, change in pairs]
    shares = []
    for (step, change), curvature in zip(reversed(pairs), reversed(curvatures), strict=True):
        share = inner(step, product) / curvature
        product -= share * change
        shares.append(share)
    product *= inverse_diagonal
    if pairs:
        change = pairs[-1][1]
        product *= curvatures[-1] / inner(change, inverse_diagonal * change)
    for (step, change), curvature, share in zip(pairs, curvatures, reversed(shares), strict=True):
        product += (share - inner(change, product) / curvature) * step
    return product

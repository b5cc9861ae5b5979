"""Gradient descent with momentum and jitter, the method of 2002, its step from the spectrum."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dasksne.optimise.state import (
    NOISE,
    STILL,
    WINDOW,
    State,
    concluded,
    extent,
    inner,
    is_finite,
    largest_move,
    longest_move,
)
from dasksne.types import Asking, Evaluation, FloatArray

POWER_ITERATIONS = 30
MOMENTUM = 0.8
"""Of a move, what the next one keeps."""
JITTER_END = 0.01
"""Jitter below this share of its first size is left out, and the guard begins."""


@dataclass(frozen=True)
class MomentumState(State):
    """`State`, and what gradient descent with momentum remembers."""

    velocity: FloatArray
    """The last move without its jitter, shape (N, d)."""
    step_size: float
    """Of the gradient; halved when the cost rises."""


@dataclass(frozen=True)
class Momentum:
    """Gradient descent with momentum and a jitter that is annealed away.

    Parameters
    ----------
    step_size : float
        Of the gradient; `spectral_step_size` finds it.
    max_iter : int
        Iterations, one evaluation each.
    tol : float
        Relative fall of the cost over 5 iterations below which it stops.
    momentum : float
        Share of the last move that is made again.
    jitter : float
        Standard deviation of the normal numbers added to each coordinate in the first iteration,
        in units of the kernel's width; 0 for none.
    jitter_decay : float
        Factor by which the jitter shrinks at each iteration.
    seed : int
        The jitter is a function of the seed and the iteration alone.

    Notes
    -----
    Once there is no jitter, a move that raises the cost is taken back, the step size halved and
    the velocity forgotten. A move to a cost that is not finite is always taken back.

    References
    ----------
    G. E. Hinton and S. T. Roweis, "Stochastic Neighbor Embedding", NIPS 15 (2002), section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from dasksne.optimise.state import step
    >>> from dasksne.types import Evaluation
    >>> def objective(y):
    ...     return Evaluation(float(np.sum((y - 1.0) ** 2)), 2 * (y - 1.0))
    >>> optimiser = Momentum(step_size=0.1, jitter=0.0, tol=1e-9)
    >>> state = optimiser.start(np.zeros((2, 2)), objective(np.zeros((2, 2))))
    >>> while state.stopped is None:
    ...     state = step(optimiser, state, objective)
    >>> bool(np.allclose(state.y, 1.0, atol=1e-3))
    True
    """

    step_size: float
    max_iter: int = 1000
    tol: float = 1e-6
    momentum: float = MOMENTUM
    jitter: float = 0.3
    jitter_decay: float = 0.95
    seed: int = 0

    @property
    def state_type(self) -> type[MomentumState]:
        """The class of this optimiser's states."""
        return MomentumState

    def start(self, y: FloatArray, evaluation: Evaluation) -> MomentumState:
        """Return the state at a first map, shape (N, d), whose evaluation is known."""
        y = np.array(y, dtype=np.float64, order="C")
        state = MomentumState(
            y=y,
            cost=float(evaluation.cost),
            gradient=np.array(evaluation.gradient, dtype=np.float64, order="C"),
            iteration=0,
            evaluations=1,
            step=0.0,
            stopped=None,
            recent_costs=np.array([evaluation.cost], dtype=np.float64),
            velocity=np.zeros_like(y),
            step_size=self.step_size,
        )
        return concluded(state, self.max_iter, self.tol)

    def asking_step(self, state: MomentumState) -> Asking[MomentumState]:
        """Return the state one iteration on, asking for evaluations; see `Optimiser`."""
        if state.stopped is not None:
            return state
        velocity = _bounded(
            self.momentum * state.velocity - state.step_size * state.gradient, state.y
        )
        jitter = self._jitter(state)
        y = state.y + velocity
        if jitter is not None:
            y += jitter
        evaluation = yield y
        rises = evaluation.cost > state.cost + NOISE * abs(state.cost)
        if not is_finite(evaluation) or (jitter is None and rises):
            return self._take_back(state)
        recent = np.append(state.recent_costs, evaluation.cost)[-(WINDOW + 1) :]
        if jitter is not None:
            recent = recent[-1:]
        new = MomentumState(
            y=y,
            cost=float(evaluation.cost),
            gradient=np.array(evaluation.gradient, dtype=np.float64, order="C"),
            iteration=state.iteration + 1,
            evaluations=state.evaluations + 1,
            step=largest_move(y - state.y),
            stopped=None,
            recent_costs=recent,
            velocity=velocity,
            step_size=state.step_size,
        )
        return concluded(new, self.max_iter, self.tol)

    def _jitter(self, state: MomentumState) -> FloatArray | None:
        share = self.jitter_decay**state.iteration
        if self.jitter == 0.0 or share < JITTER_END:
            return None
        numbers = np.random.Generator(np.random.Philox(key=[self.seed, state.iteration]))
        return self.jitter * share * numbers.standard_normal(state.y.shape)

    def _take_back(self, state: MomentumState) -> MomentumState:
        """Stay, halve the step size and forget the velocity."""
        iteration, step_size = state.iteration + 1, 0.5 * state.step_size
        stopped = "max_iter reached" if iteration >= self.max_iter else None
        if step_size * largest_move(state.gradient) <= STILL * extent(state.y):
            stopped = "no lower cost was found along the gradient"
        return replace(
            state,
            iteration=iteration,
            evaluations=state.evaluations + 1,
            step=0.0,
            stopped=stopped,
            velocity=np.zeros_like(state.velocity),
            step_size=step_size,
        )


def _bounded(velocity: FloatArray, y: FloatArray) -> FloatArray:
    longest = longest_move(y)
    move = largest_move(velocity)
    return velocity if move <= longest else (longest / move) * velocity


def spectral_step_size(
    laplacian_product: Callable[[FloatArray], FloatArray],
    n_points: int,
) -> float:
    """Return (1 + MOMENTUM) / lmax, half of the largest stable step of momentum on the attraction.

    Parameters
    ----------
    laplacian_product : callable
        V -> A(V) = diag(S 1) V - S V, of shape (N, 1): the attraction, linear in the map.
    n_points : int
        N.

    Notes
    -----
    The gradient's attraction is 2 A(Y), so lmax is twice the largest eigenvalue of A, found by
    power iteration from a fixed start. Gradient descent with momentum on a quadratic of largest
    curvature lmax is stable below 2 (1 + momentum) / lmax; the repulsion only lowers the curvature.
    """
    vector: FloatArray = np.random.Generator(np.random.Philox(key=0)).standard_normal((n_points, 1))
    vector -= np.mean(vector)
    eigenvalue = 0.0
    for _ in range(POWER_ITERATIONS):
        vector = vector / np.sqrt(inner(vector, vector))
        image = laplacian_product(vector)
        eigenvalue = np.sqrt(inner(image, image))
        if not eigenvalue > 0.0:
            break
        vector = image
    return float((1.0 + MOMENTUM) / (2.0 * eigenvalue)) if eigenvalue > 0.0 else 1.0

"""A line search that asks for no more than a noisy cost can give."""

import math
from typing import NamedTuple

from dasksne.optimise.state import NOISE, inner, is_finite
from dasksne.types import Asking, Evaluation, FloatArray

SUFFICIENT_FALL = 1e-4
CURVATURE = 0.9
MAX_TRIALS = 20
SHORTEN = 0.1
"""Of the bracket, where a trial gave no number to interpolate with."""


class Trial(NamedTuple):
    """A point on the line, as far as the search needs it."""

    alpha: float
    cost: float
    slope: float


class Accepted(NamedTuple):
    """Where the search ended."""

    y: FloatArray
    evaluation: Evaluation
    evaluations: int


class Refused(NamedTuple):
    """The search found no lower cost."""

    evaluations: int


def search(
    y: FloatArray,
    cost: float,
    direction: FloatArray,
    *,
    slope: float,
    longest: float,
) -> Asking[Accepted | Refused]:
    """Find a step along a direction that meets the weak Wolfe conditions, up to the cost's noise.

    It yields each trial and is sent its evaluation. The whole direction (alpha = 1) is tried first.
    A trial with a non-finite cost or gradient is shortened. At the longest step the curvature
    condition is waived.

    Parameters
    ----------
    y, direction : array of shape (N, d)
    cost : float
        At y.
    slope : float
        Of the cost along the direction at y; negative.
    longest : float
        Largest alpha allowed, at least 1.

    References
    ----------
    A. S. Lewis and M. L. Overton, "Nonsmooth optimization via quasi-Newton methods",
    Mathematical Programming 141 (2013), section 3: the bracket. J. Nocedal and S. J. Wright,
    "Numerical Optimization" (2006), equation 3.59: the cubic.
    """
    origin = Trial(0.0, cost, slope)
    low, high = origin, None
    best: tuple[FloatArray, Evaluation] | None = None
    limit = longest
    alpha = 1.0
    for trials in range(1, MAX_TRIALS + 1):
        y_trial = y + alpha * direction
        evaluation = yield y_trial
        if not is_finite(evaluation):
            high, limit = None, alpha
            alpha = low.alpha + SHORTEN * (alpha - low.alpha)
            continue
        trial = Trial(alpha, evaluation.cost, inner(evaluation.gradient, direction))
        allowed = cost + SUFFICIENT_FALL * alpha * slope + NOISE * abs(cost)
        if trial.cost > allowed:
            high = trial
            alpha = _between(low, high)
        elif trial.slope < CURVATURE * slope and alpha < limit:
            low, best = trial, (y_trial, evaluation)
            alpha = _between(low, high) if high else _beyond(origin, low, limit)
        else:
            return Accepted(y_trial, evaluation, trials)
    if best is not None and best[1].cost < cost:
        return Accepted(*best, MAX_TRIALS)
    return Refused(MAX_TRIALS)


def _between(low: Trial, high: Trial) -> float:
    """Return the cubic's minimum, kept from the ends by a tenth of the bracket."""
    width = high.alpha - low.alpha
    alpha = _cubic_minimum(low, high)
    if not math.isfinite(alpha):
        alpha = low.alpha + 0.5 * width
    return min(max(alpha, low.alpha + 0.1 * width), high.alpha - 0.1 * width)


def _beyond(origin: Trial, low: Trial, limit: float) -> float:
    """Return a longer step: the cubic's minimum, between twice and ten times the last one."""
    alpha = _cubic_minimum(origin, low)
    if not math.isfinite(alpha) or alpha < low.alpha:
        alpha = 4.0 * low.alpha
    return min(max(alpha, 2.0 * low.alpha), 10.0 * low.alpha, limit)


def _cubic_minimum(a: Trial, b: Trial) -> float:
    """Return where the cubic through two costs and slopes is least; NaN where it has no minimum."""
    width = b.alpha - a.alpha
    d1 = a.slope + b.slope - 3.0 * (b.cost - a.cost) / width
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0.0:
        return math.nan
    d2 = math.sqrt(square)
    denominator = b.slope - a.slope + 2.0 * d2
    if denominator == 0.0:
        return math.nan
    return b.alpha - width * (b.slope + d2 - d1) / denominator

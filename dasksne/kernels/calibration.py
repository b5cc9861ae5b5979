"""The precision of each row: given, or found so that the row's perplexity is as asked."""

import math
from typing import NamedTuple

import numpy as np

from dasksne.kernels.compiled import exp_nonpositive, strict, summation
from dasksne.types import FloatArray

LAST_STEP = 1e-7
"""In nats and in log(precision): from so near a step of Newton's method ends at rounding."""
MAX_PASSES = 200
LARGEST_STEP = 4.0
"""In log(precision): keeps Newton's method near where its slope means something."""


class Calibration(NamedTuple):
    """What is kept of each row of P, shape (rows,) each."""

    precision: FloatArray
    """beta_i, in units of 1 / distance^2."""
    log_normaliser: FloatArray
    """log sum_{k != i} exp(-beta_i d_ik)."""
    entropy: FloatArray
    """-sum_j p_{j|i} log p_{j|i}, in nats."""
    cutoff: FloatArray
    """The largest squared distance of an entry that is kept; infinity where all are."""
    dropped: FloatArray
    """The mass of the entries that are not kept, before the rest was normalised again."""
    kept: FloatArray
    """How many entries are kept."""


def calibrate(distances: FloatArray, first_row: int, perplexity: float) -> Calibration:
    """Find each row's precision so that its entropy is log(perplexity).

    Parameters
    ----------
    distances : array of shape (rows, N), float64
        Squared distances from points first_row, first_row + 1, ... to all points. The entry of a
        point with itself is not read.
    first_row : int
    perplexity : float
        Between 1 and N - 1.

    Notes
    -----
    Entropy falls with beta, almost linearly in log(beta) where the data looks d-dimensional:
    d H / d log(beta) = -Var_p(beta d). Newton's method in log(beta), inside a bracket that shrinks,
    ends at rounding. Where k points share the smallest distance and k >= perplexity no
    precision reaches it; the row is then uniform over those k, its limit.
    """
    return _fill(distances, first_row, math.log(perplexity), np.nan)


def normalise(distances: FloatArray, first_row: int, precision: float) -> Calibration:
    """Return the normaliser and entropy of each row at a given precision; as `calibrate`."""
    return _fill(distances, first_row, np.nan, precision)


def _fill(distances: FloatArray, first_row: int, target: float, precision: float) -> Calibration:
    n_rows = distances.shape[0]
    out = Calibration(
        np.empty(n_rows),
        np.empty(n_rows),
        np.empty(n_rows),
        cutoff=np.full(n_rows, np.inf),
        dropped=np.zeros(n_rows),
        kept=np.full(n_rows, distances.shape[1] - 1.0),
    )
    _calibrate(distances, first_row, target, precision, *out[:3])
    return out


@strict
def _calibrate(distances, first_row, target, given, precision, log_normaliser, entropy):  # type: ignore[no-untyped-def]
    for i in range(distances.shape[0]):
        own = first_row + i
        before, after = distances[i, :own], distances[i, own + 1 :]
        nearest = min(_least(before), _least(after))
        if given == given:  # noqa: PLR0124 - not NaN
            beta = given
            s0, s1, _ = _moments(before, after, nearest, beta)
        else:
            beta, s0, s1 = _solve(distances[i], own, nearest, target)
        precision[i] = beta
        log_normaliser[i] = math.log(s0) - beta * nearest
        entropy[i] = math.log(s0) + s1 / s0


@strict
def _solve(d, own, nearest, target):  # type: ignore[no-untyped-def]
    """Return beta at the target entropy, and the first two moments there."""
    before, after = d[:own], d[own + 1 :]
    ties, mean = _ties_and_mean(before, after, nearest)
    if math.log(ties) >= target:
        gap = _gap(d, own, nearest)
        beta = 745.0 / gap if gap < np.inf else 1.0
        s0, s1, _ = _moments(before, after, nearest, beta)
        return beta, s0, s1
    t, s0, s1 = _newton(before, after, nearest, -math.log(mean), target)
    return math.exp(t), s0, s1


@strict
def _newton(before, after, nearest, t, target):  # type: ignore[no-untyped-def]
    """Solve for t = log(beta) by Newton's method in a bracket; return t and two moments there."""
    low, high = -np.inf, np.inf
    for _ in range(MAX_PASSES):
        s0, s1, s2 = _moments(before, after, nearest, math.exp(t))
        mean = s1 / s0
        excess = math.log(s0) + mean - target
        variance = s2 / s0 - mean * mean
        step = excess / variance if variance > 0.0 else math.copysign(np.inf, excess)
        step = min(max(step, -LARGEST_STEP), LARGEST_STEP)
        if max(abs(excess), abs(step)) <= LAST_STEP:
            # The step is so small that the moments follow it to first order.
            return t + step, s0 - step * s1, s1 - step * (s2 - s1)
        if excess > 0.0:
            low = t
        else:
            high = t
        t += step
        if not low < t < high:
            t = 0.5 * (low + high)
            if t in (low, high):  # the bracket is one rounding wide
                break
    s0, s1, _ = _moments(before, after, nearest, math.exp(t))
    return t, s0, s1


@summation
def _least(d):  # type: ignore[no-untyped-def]
    least = np.inf
    for j in range(d.size):
        least = min(least, d[j])
    return least


@strict
def _ties_and_mean(before, after, nearest):  # type: ignore[no-untyped-def]
    """Return how many points share the nearest distance, and the mean excess over it."""
    n, a = _count_and_sum(before, nearest)
    m, b = _count_and_sum(after, nearest)
    return n + m, (a + b) / (before.size + after.size)


@strict
def _gap(d, own, nearest):  # type: ignore[no-untyped-def]
    """Return the smallest positive excess over the nearest distance; infinity if there is none."""
    gap = np.inf
    for j in range(d.size):
        if j != own and d[j] > nearest:
            gap = min(gap, d[j] - nearest)
    return gap


@summation
def _count_and_sum(d, nearest):  # type: ignore[no-untyped-def]
    count = 0
    total = 0.0
    for j in range(d.size):
        excess = d[j] - nearest
        count += 0 if excess > 0.0 else 1
        total += excess
    return count, total


@strict
def _moments(before, after, nearest, beta):  # type: ignore[no-untyped-def]
    """Return the sums of e^-x, x e^-x and x^2 e^-x over all others, x = beta (d - nearest)."""
    a0, a1, a2 = _partial_moments(before, nearest, beta)
    b0, b1, b2 = _partial_moments(after, nearest, beta)
    return a0 + b0, a1 + b1, a2 + b2


@summation
def _partial_moments(d, nearest, beta):  # type: ignore[no-untyped-def]
    s0 = 0.0
    s1 = 0.0
    s2 = 0.0
    for j in range(d.size):
        x = beta * (d[j] - nearest)
        e = exp_nonpositive(-x)
        s0 += e
        s1 += x * e
        s2 += x * x * e
    return s0, s1, s2

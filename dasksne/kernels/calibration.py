"""The precision of each row: given, or found so that the row's perplexity is as asked."""

import math
from typing import NamedTuple

import numpy as np

from dasksne.kernels.compiled import exp_nonpositive, strict, summation
from dasksne.types import FloatArray

ENTROPY_TOLERANCE = 1e-10
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
    ends within 1e-10 nats. Where k points share the smallest distance and k >= perplexity no
    precision reaches it; the row is then uniform over those k, its limit.
    """
    return _fill(distances, first_row, math.log(perplexity), np.nan)


def normalise(distances: FloatArray, first_row: int, precision: float) -> Calibration:
    """Return the normaliser and entropy of each row at a given precision; as `calibrate`."""
    return _fill(distances, first_row, np.nan, precision)


def _fill(distances: FloatArray, first_row: int, target: float, precision: float) -> Calibration:
    n_rows = distances.shape[0]
    out = Calibration(np.empty(n_rows), np.empty(n_rows), np.empty(n_rows))
    _calibrate(distances, first_row, target, precision, *out)
    return out


@strict
def _calibrate(distances, first_row, target, given, precision, log_normaliser, entropy):  # type: ignore[no-untyped-def]
    for i in range(distances.shape[0]):
        d = distances[i]
        own = first_row + i
        nearest, ties, gap, mean = _shape(d, own)
        if given == given:  # noqa: PLR0124 - not NaN
            beta = given
        elif math.log(ties) >= target - ENTROPY_TOLERANCE:
            beta = 745.0 / gap if gap > 0.0 else 1.0
        else:
            beta = _solve(d, own, nearest, 1.0 / mean, target)
        s0, s1, _ = _moments(d, own, nearest, beta)
        precision[i] = beta
        log_normaliser[i] = math.log(s0) - beta * nearest
        entropy[i] = math.log(s0) + s1 / s0


@strict
def _solve(d, own, nearest, beta, target):  # type: ignore[no-untyped-def]
    """Safeguarded Newton on log(beta); [low, high] brackets the root."""
    t = math.log(beta)
    low, high = -np.inf, np.inf
    for _ in range(MAX_PASSES):
        s0, s1, s2 = _moments(d, own, nearest, math.exp(t))
        mean = s1 / s0
        excess = math.log(s0) + mean - target
        if abs(excess) <= ENTROPY_TOLERANCE:
            break
        if excess > 0.0:
            low = t
        else:
            high = t
        variance = s2 / s0 - mean * mean
        step = excess / variance if variance > 0.0 else math.copysign(np.inf, excess)
        step = min(max(step, -LARGEST_STEP), LARGEST_STEP)
        t += step
        if not low < t < high:
            t = 0.5 * (low + high)
            if t in (low, high):  # the bracket is one rounding wide
                break
    return math.exp(t)


@strict
def _shape(d, own):  # type: ignore[no-untyped-def]
    """Return the nearest distance, how many share it, the gap to the next, the mean excess."""
    nearest = np.inf
    for j in range(d.size):
        if j != own:
            nearest = min(nearest, d[j])
    ties = 0
    gap = np.inf
    total = 0.0
    for j in range(d.size):
        if j != own:
            excess = d[j] - nearest
            total += excess
            if excess > 0.0:
                gap = min(gap, excess)
            else:
                ties += 1
    if gap == np.inf:
        gap = 0.0
    return nearest, ties, gap, total / (d.size - 1)


@strict
def _moments(d, own, nearest, beta):  # type: ignore[no-untyped-def]
    """Return the sums of e^-x, x e^-x and x^2 e^-x over all others, x = beta (d - nearest)."""
    a0, a1, a2 = _partial_moments(d[:own], nearest, beta)
    b0, b1, b2 = _partial_moments(d[own + 1 :], nearest, beta)
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

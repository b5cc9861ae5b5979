"""The precision of each row: given, or found so that the row's perplexity is as asked."""

import math
from typing import NamedTuple

import numpy as np

from dasksne.kernels.compiled import (
    exp_nonpositive,
    single_exp_nonpositive,
    strict,
    summation,
)
from dasksne.types import FloatArray

LAST_STEP = 1e-5
"""In nats and in log(precision): from so near a step of third order ends at rounding."""
ROUGH_STEP = 1e-3
"""In log(precision): after one that is smaller, the estimate in float32 is as good as it gets."""
ROUGH_PASSES = 20
USUAL = 3.0
"""Of log(beta times the mean distance): where the search begins."""
INFINITY_BITS = int(np.float64(np.inf).view(np.int64))
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
    d H / d log(beta) = -Var_p(beta d). Newton's method in log(beta) comes near in float32, for a
    quarter of the work a pass; in float64, inside a bracket that shrinks, it ends at rounding.
    Where k points share the smallest distance and k >= perplexity no precision reaches it; the row
    is then uniform over those k, its limit.
    """
    return _fill(distances, first_row, math.log(perplexity), np.nan)


def normalise(distances: FloatArray, first_row: int, precision: float | FloatArray) -> Calibration:
    """Return the normaliser and entropy of each row at a given precision, or at one of its own."""
    return _fill(distances, first_row, np.nan, precision)


def _fill(
    distances: FloatArray, first_row: int, target: float, precision: float | FloatArray
) -> Calibration:
    n_rows = distances.shape[0]
    out = Calibration(
        np.empty(n_rows),
        np.empty(n_rows),
        np.empty(n_rows),
        cutoff=np.full(n_rows, np.inf),
        dropped=np.zeros(n_rows),
        kept=np.full(n_rows, distances.shape[1] - 1.0),
    )
    _calibrate(distances, first_row, target, np.full(n_rows, precision), *out[:3])
    return out


@strict
def _calibrate(distances, first_row, target, given, precision, log_normaliser, entropy):  # type: ignore[no-untyped-def]
    rough = np.empty(distances.shape[1], dtype=np.float32)
    for i in range(distances.shape[0]):
        own = first_row + i
        before, after = distances[i, :own], distances[i, own + 1 :]
        nearest = min(_least(before), _least(after))
        if not math.isnan(given[i]):
            beta = given[i]
            s0, s1, _, _ = _moments(before, after, nearest, beta)
        else:
            beta, s0, s1 = _solve(distances[i], own, nearest, target, rough)
        precision[i] = beta
        log_normaliser[i] = math.log(s0) - beta * nearest
        entropy[i] = math.log(s0) + s1 / s0


@strict
def _solve(d, own, nearest, target, rough):  # type: ignore[no-untyped-def]
    """Return beta at the target entropy, and the first two moments there."""
    before, after = d[:own], d[own + 1 :]
    ties, mean = _ties_and_mean(before, after, nearest)
    if math.log(ties) >= target:
        gap = _gap(d, own, nearest)
        beta = 745.0 / gap if gap < np.inf else 1.0
        s0, s1, _, _ = _moments(before, after, nearest, beta)
        return beta, s0, s1
    _write_excess(before, nearest, mean, rough)
    _write_excess(after, nearest, mean, rough[before.size :])
    t = _estimate(rough[: before.size + after.size], target) - math.log(mean)
    t, s0, s1 = _newton(before, after, nearest, t, target)
    return math.exp(t), s0, s1


@summation
def _write_excess(d, nearest, mean, out):  # type: ignore[no-untyped-def]
    """Write how much farther than the nearest, in units of the mean that fit a float32."""
    for j in range(d.size):
        out[j] = np.float32((d[j] - nearest) / mean)


@strict
def _estimate(excess, target):  # type: ignore[no-untyped-def]
    """Return t = log(beta) at the target entropy, as near as float32 gets."""
    t, low, high = USUAL, -np.inf, np.inf
    for _ in range(ROUGH_PASSES):
        s0, s1, s2 = _single_moments(excess, np.float32(math.exp(t)))
        mean = s1 / s0
        over = math.log(s0) + mean - target
        step = _step(over, s2 / s0 - mean * mean)
        if abs(step) <= ROUGH_STEP:
            return t + step
        t, low, high = _advance(t, over, step, low, high)
    return t


@strict
def _step(excess, variance):  # type: ignore[no-untyped-def]
    """Return Newton's step in log(beta), bounded."""
    step = excess / variance if variance > 0.0 else math.copysign(np.inf, excess)
    return min(max(step, -LARGEST_STEP), LARGEST_STEP)


@strict
def _advance(t, excess, step, low, high):  # type: ignore[no-untyped-def]
    """Return t after a step, and the bracket: its middle where a step would leave it."""
    if excess > 0.0:
        low = t
    else:
        high = t
    t += step
    return (t if low < t < high else 0.5 * (low + high)), low, high


@summation
def _single_moments(excess, beta):  # type: ignore[no-untyped-def]
    """Return the sums of `_moments` in float32, without the third."""
    s0, s1, s2 = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for j in range(excess.size):
        x = beta * excess[j]
        e = single_exp_nonpositive(-x)
        s0 += e
        s1 += x * e
        s2 += x * x * e
    return float(s0), float(s1), float(s2)


@strict
def _newton(before, after, nearest, t, target):  # type: ignore[no-untyped-def]
    """Solve for t = log(beta) by Newton's method in a bracket; return t and two moments there."""
    low, high = -np.inf, np.inf
    for _ in range(MAX_PASSES):
        s0, s1, s2, s3 = _moments(before, after, nearest, math.exp(t))
        mean = s1 / s0
        excess = math.log(s0) + mean - target
        variance = s2 / s0 - mean * mean
        step = _step(excess, variance)
        if max(abs(excess), abs(step)) <= LAST_STEP:
            # The step is so small that all of it follows from the moments, to second order.
            slope = (2.0 * s2 - s3) / s0 + mean * s2 / s0 - 2.0 * mean * (mean - variance)
            step -= 0.5 * step * step * slope / variance if variance > 0.0 else 0.0
            half = 0.5 * step * step
            s0, s1 = (
                s0 - step * s1 + half * (s2 - s1),
                s1 - step * (s2 - s1) + half * (s1 - 3.0 * s2 + s3),
            )
            return t + step, s0, s1
        t, low, high = _advance(t, excess, step, low, high)
        if t in (low, high):  # the bracket is one rounding wide
            break
    s0, s1, _, _ = _moments(before, after, nearest, math.exp(t))
    return t, s0, s1


@strict
def _least(d):  # type: ignore[no-untyped-def]
    # Floats that are not negative are in the order of their bits, and a minimum of integers is
    # compiled for vectors where one of floats, which may be NaN, is not.
    least = INFINITY_BITS
    for bits in d.view(np.int64):
        least = min(least, bits)
    return np.int64(least).view(np.float64)


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
    """Return the sums of x^k e^-x over all others for k = 0 to 3, x = beta (d - nearest)."""
    a0, a1, a2, a3 = _partial_moments(before, nearest, beta)
    b0, b1, b2, b3 = _partial_moments(after, nearest, beta)
    return a0 + b0, a1 + b1, a2 + b2, a3 + b3


@summation
def _partial_moments(d, nearest, beta):  # type: ignore[no-untyped-def]
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    for j in range(d.size):
        x = beta * (d[j] - nearest)
        e = exp_nonpositive(-x)
        xe = x * e
        s0 += e
        s1 += xe
        s2 += x * xe
        s3 += x * x * xe
    return s0, s1, s2, s3

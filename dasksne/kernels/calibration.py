"""The precision of each row, given or found so that its perplexity is as asked; what it keeps."""

import math
from typing import NamedTuple

import numpy as np

from dasksne.kernels.compiled import (
    exp_nonpositive,
    part_of,
    single_exp_nonpositive,
    strict,
    summation,
)
from dasksne.kernels.truncation import cut_row
from dasksne.types import FloatArray

LAST_STEP = 1e-5
"""In nats and in log(precision): from so near a step of third order ends at rounding."""
ROUGH_STEP = 1e-3
"""In log(precision): after one that is smaller, the estimate in float32 is as good as it gets."""
ROUGH_PASSES = 20
SMALLEST_MEAN = 1e-16
"""Of an excess over the nearest distance, relative to that: one that is smaller is rounding."""
USUAL = 3.0
"""Of log(beta times the mean distance): where the search begins."""
INFINITY_BITS = int(np.float64(np.inf).view(np.int64))
MAX_PASSES = 200
LARGEST_STEP = 4.0
"""In log(precision): keeps Newton's method near where its slope means something."""
TIED = 1e-12
"""Relative: distances that differ by less are one, but for rounding."""
EXCESS_OF_ZERO = 745.0
"""Whose exponential is 0."""


class Calibration(NamedTuple):
    """What is kept of each row of P, shape (rows,) each."""

    precision: FloatArray
    """beta_i, in units of 1 / distance^2."""
    nearest: FloatArray
    """The smallest squared distance d_ik, k != i. p follows from what d exceeds it by: of distances
    far larger than their differences, exp(-beta_i d_ij) and the sum of them would be noise."""
    log_normaliser: FloatArray
    """log sum_{k != i} exp(-beta_i (d_ik - nearest_i)), over all copies of points that count more
    than once."""
    entropy: FloatArray
    """-sum_j p_{j|i} log p_{j|i}, in nats."""
    cutoff: FloatArray
    """The largest squared distance of an entry that is kept; infinity where all are."""
    dropped: FloatArray
    """The mass of the entries that are not kept, before the rest was normalised again."""
    kept: FloatArray
    """How many entries are kept."""

    def numbers(self, rows: slice = slice(None)) -> tuple[FloatArray, ...]:
        """Return what the entries of some rows follow from, and which are kept."""
        return (
            self.precision[rows],
            self.nearest[rows],
            self.log_normaliser[rows],
            self.cutoff[rows],
        )


def calibrate(
    distances: FloatArray,
    first_row: int,
    perplexity: float,
    tail_mass: float = 0.0,
    counts: FloatArray | None = None,
) -> Calibration:
    """Find each row's precision so that its entropy is log(perplexity), then drop its tail.

    Parameters
    ----------
    distances : array of shape (rows, N), float64
        Squared distances from points first_row, first_row + 1, ... to all points. The entry of a
        point with itself is not read.
    first_row : int
    perplexity : float
        Between 1 and N - 1, of the whole row.
    tail_mass : float
        The most that a row drops, in [0, 1), before the rest is normalised again. Entries as near
        as the last one kept are kept too.
    counts : array of shape (N,), float64, optional
        How often each point counts; once unless given. A point that counts c times has c - 1 others
        in its place. Does not go with a tail_mass.

    Notes
    -----
    Entropy falls with beta, almost linearly in log(beta) where the data looks d-dimensional:
    d H / d log(beta) = -Var_p(beta d). Newton's method in log(beta) comes near in float32, for a
    quarter of the work a pass; in float64, inside a bracket that shrinks, it ends at rounding.
    Where k points share the smallest distance, up to rounding, and k >= perplexity, no precision
    reaches it; the row is then uniform over those k, its limit.
    """
    return _fill(distances, first_row, math.log(perplexity), np.nan, tail_mass, counts)


def normalise(
    distances: FloatArray,
    first_row: int,
    precision: float | FloatArray,
    tail_mass: float = 0.0,
    counts: FloatArray | None = None,
) -> Calibration:
    """Return rows at a given precision, or each at one of its own; otherwise as `calibrate`."""
    return _fill(distances, first_row, np.nan, precision, tail_mass, counts)


def _fill(
    distances: FloatArray,
    first_row: int,
    target: float,
    precision: float | FloatArray,
    tail_mass: float,
    counts: FloatArray | None,
) -> Calibration:
    n_rows = distances.shape[0]
    out = Calibration(
        precision=np.empty(n_rows),
        nearest=np.empty(n_rows),
        log_normaliser=np.empty(n_rows),
        entropy=np.empty(n_rows),
        cutoff=np.full(n_rows, np.inf),
        dropped=np.zeros(n_rows),
        kept=np.full(n_rows, distances.shape[1] - 1.0),
    )
    given = np.full(n_rows, precision)
    _calibrate(distances, first_row, counts, target, given, tail_mass, *out)
    return out


@strict
def _calibrate(  # type: ignore[no-untyped-def]
    distances,
    first_row,
    counts,
    target,
    given,
    tail_mass,
    precision,
    smallest,
    log_normaliser,
    entropy,
    cutoff,
    dropped,
    kept,
):
    n = distances.shape[1]
    rough = np.empty(n, dtype=np.float32)
    near = np.empty((4, n + 1 if tail_mass > 0.0 else 0))
    # Entries whose weights are below tail_mass / N, relative to the nearest one's, together weigh
    # less than tail_mass: only the others can be kept.
    limit = math.log(n / tail_mass) if tail_mass > 0.0 else np.inf
    for i in range(distances.shape[0]):
        own = first_row + i
        row = _others(distances[i], own, counts)
        before, after = row[0], row[1]
        least, total = _least_and_sum(before)
        other, rest = _least_and_sum(after)
        nearest = min(least, other)
        if row[4] > 0.0:
            nearest = 0.0
        if not math.isnan(given[i]):
            beta = edge = given[i]
            s0, s1, _, _, far, _, _ = _moments(row, nearest, beta, limit)
        else:
            mean = (total + rest) / (before.size + after.size) - nearest
            mean = max(mean, SMALLEST_MEAN * nearest) or 1.0
            beta, s0, s1, far, edge = _solve(row, nearest, mean, target, limit, rough)
        precision[i], smallest[i] = beta, nearest
        shift = math.log(s0)
        log_normaliser[i] = shift
        entropy[i] = shift + s1 / s0
        if tail_mass > 0.0:
            cutoff[i], kept[i], mass, moment, lost = cut_row(
                before, after, nearest, edge, limit, beta, shift, far / s0, tail_mass, near
            )
            dropped[i] = far / s0 + lost
            log_normaliser[i] = shift + math.log(mass)
            entropy[i] = moment / mass + math.log(mass)


@strict
def _others(d, own, counts):  # type: ignore[no-untyped-def]
    """Return a row without the point's own entry, and how often each entry left counts.

    The distances before and after it, their counts, and how many copies the point itself has.
    """
    before, after = part_of(counts, 0, own), part_of(counts, own + 1, d.size)
    return d[:own], d[own + 1 :], before, after, _copies(counts, own)


@strict
def _copies(counts, own):  # type: ignore[no-untyped-def]
    if counts is None:
        return 0.0
    return counts[own] - 1.0 if own < counts.size else 0.0


@strict
def _solve(row, nearest, mean, target, limit, rough):  # type: ignore[no-untyped-def]
    """Return what `_newton` does, of a row whose mean excess over its nearest distance is known.

    That mean need not be exact.
    """
    before, after, times, times_after, copies = row
    ties = _write_excess(before, times, nearest, 1.0 / mean, rough) + copies
    ties += _write_excess(after, times_after, nearest, 1.0 / mean, rough[before.size :])
    if math.log(ties) >= target:
        gap = min(_gap(before, nearest), _gap(after, nearest))
        # Where all are tied, an excess is rounding, which shall not count.
        beta = EXCESS_OF_ZERO / gap if gap < np.inf else 1.0 / (nearest or 1.0)
        s0, s1, _, _, far, _, _ = _moments(row, nearest, beta, limit)
        return beta, s0, s1, far, beta
    t = _estimate(rough[: before.size + after.size], times, target) - math.log(mean)
    return _newton(row, nearest, t, target, limit)


@summation
def _write_excess(d, times, nearest, scale, out):  # type: ignore[no-untyped-def]
    """Write how much farther than the nearest, in units that fit a float32; return the ties."""
    ties = 0.0
    for j in range(d.size):
        excess = d[j] - nearest
        count = 1.0
        if times is not None:
            count = times[j]
        ties += 0.0 if excess > TIED * nearest else count
        out[j] = np.float32(scale * excess)
    return ties


@strict
def _estimate(excess, times, target):  # type: ignore[no-untyped-def]
    """Return t = log(beta) at the target entropy, as near as float32 gets.

    Where points count more than once, no nearer than where the search begins.
    """
    t, low, high = USUAL, -np.inf, np.inf
    if times is not None:
        return t
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
def _newton(row, nearest, t, target, limit):  # type: ignore[no-untyped-def]
    """Solve for t = log(beta) by Newton's method in a bracket.

    Return beta, two moments there, the weight of what is far, and the precision at which it is.
    """
    low, high = -np.inf, np.inf
    for _ in range(MAX_PASSES):
        beta = math.exp(t)
        s0, s1, s2, s3, f0, f1, f2 = _moments(row, nearest, beta, limit)
        mean = s1 / s0
        excess = math.log(s0) + mean - target
        variance = s2 / s0 - mean * mean
        step = _step(excess, variance)
        if max(abs(excess), abs(step)) <= LAST_STEP:
            # The step is so small that all of it follows from the moments, to second order.
            slope = (2.0 * s2 - s3) / s0 + mean * s2 / s0 - 2.0 * mean * (mean - variance)
            step -= 0.5 * step * step * slope / variance if variance > 0.0 else 0.0
            half = 0.5 * step * step
            s0, s1, f0 = (
                s0 - step * s1 + half * (s2 - s1),
                s1 - step * (s2 - s1) + half * (s1 - 3.0 * s2 + s3),
                f0 - step * f1 + half * (f2 - f1),
            )
            return math.exp(t + step), s0, s1, f0, beta
        t, low, high = _advance(t, excess, step, low, high)
        if t in (low, high):  # the bracket is one rounding wide
            break
    beta = math.exp(t)
    s0, s1, _, _, f0, _, _ = _moments(row, nearest, beta, limit)
    return beta, s0, s1, f0, beta


@summation
def _least_and_sum(d):  # type: ignore[no-untyped-def]
    # Floats that are not negative are in the order of their bits, and a minimum of integers is
    # compiled for vectors where one of floats, which may be NaN, is not.
    least = INFINITY_BITS
    total = 0.0
    bits = d.view(np.int64)
    for j in range(d.size):
        least = min(least, bits[j])
        total += d[j]
    return np.int64(least).view(np.float64), total


@strict
def _gap(d, nearest):  # type: ignore[no-untyped-def]
    """Return the smallest excess over the nearest distance that is no tie; infinity without one."""
    gap = np.inf
    for j in range(d.size):
        if d[j] - nearest > TIED * nearest:
            gap = min(gap, d[j] - nearest)
    return gap


@strict
def _moments(row, nearest, beta, limit):  # type: ignore[no-untyped-def]
    """Return the sums of x^k e^-x over all others, x = beta (d - nearest).

    For k = 0 to 3 over all, then for k = 0 to 2 over those with x at the limit or beyond.
    """
    before, after, times, times_after, copies = row
    a0, a1, a2, a3, a4, a5, a6 = _partial_moments(before, times, nearest, beta, limit)
    b0, b1, b2, b3, b4, b5, b6 = _partial_moments(after, times_after, nearest, beta, limit)
    return a0 + b0 + copies, a1 + b1, a2 + b2, a3 + b3, a4 + b4, a5 + b5, a6 + b6


@summation
def _partial_moments(d, times, nearest, beta, limit):  # type: ignore[no-untyped-def]
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    f0, f1, f2 = 0.0, 0.0, 0.0
    for j in range(d.size):
        x = beta * (d[j] - nearest)
        e = exp_nonpositive(-x)
        if times is not None:
            e *= times[j]
        xe = x * e
        s0 += e
        s1 += xe
        s2 += x * xe
        s3 += x * (x * xe)  # x * x may overflow
        far = e if x >= limit else 0.0
        f0 += far
        f1 += x * far
        f2 += x * (x * far)
    return s0, s1, s2, s3, f0, f1, f2

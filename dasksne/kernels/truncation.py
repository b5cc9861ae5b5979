"""Rows of P without their tails: the largest entries, until what is dropped weighs at most t."""

import math

import numpy as np

from dasksne.kernels.calibration import Calibration
from dasksne.kernels.compiled import exp_nonpositive, strict, summation
from dasksne.types import FloatArray

NARROW = 0.01
"""Of -log p: in so short an interval are a few entries."""


def truncate(
    distances: FloatArray, first_row: int, found: Calibration, tail_mass: float
) -> Calibration:
    """Return the calibration of rows that keep their largest entries and are normalised again.

    Parameters
    ----------
    distances : array of shape (rows, N), float64
        Squared distances, as for `calibration.calibrate`.
    first_row : int
    found : Calibration
        Of the whole rows.
    tail_mass : float
        The most that a row drops, in [0, 1). Entries as near as the last one kept are kept too.
    """
    if tail_mass == 0.0:
        return found
    out = Calibration(*(column.copy() for column in found))
    _truncate(distances, first_row, tail_mass, *out)
    return out


@strict
def _truncate(  # type: ignore[no-untyped-def]
    distances, first_row, tail_mass, precision, log_normaliser, entropy, cutoff, dropped, kept
):
    n = distances.shape[1]
    near, inside = np.empty((3, n + 1)), np.empty(n)
    # All entries below tail_mass / N together weigh less than tail_mass.
    limit = math.log(n / tail_mass)
    for i in range(distances.shape[0]):
        beta, shift = precision[i], log_normaliser[i]
        before, after = distances[i, : first_row + i], distances[i, first_row + i + 1 :]
        far = _mass_beyond(before, beta, shift, limit) + _mass_beyond(after, beta, shift, limit)
        m = _write_near(before, beta, shift, limit, near[0])
        m += _write_near(after, beta, shift, limit, near[0, m:])
        near_d, near_x, near_p = near[0, :m], near[1, :m], near[2, :m]
        _weights(near_d, beta, shift, near_x, near_p)
        smallest = _smallest_kept(near_x, near_p, limit, far, tail_mass, inside)
        cutoff[i] = _cutoff(near_d, near_x, smallest)
        count, mass, moment, lost = _sums(near_d, near_x, near_p, cutoff[i])
        kept[i] = count
        dropped[i] = far + lost
        log_normaliser[i] += math.log(mass)
        entropy[i] = moment / mass + math.log(mass)


@summation
def _mass_beyond(d, beta, shift, limit):  # type: ignore[no-untyped-def]
    """Return the mass of the entries whose -log p is at the limit or beyond."""
    mass = 0.0
    for j in range(d.size):
        x = beta * d[j] + shift
        p = exp_nonpositive(-x)
        mass += p if x >= limit else 0.0
    return mass


@strict
def _write_near(d, beta, shift, limit, near):  # type: ignore[no-untyped-def]
    """Write the distances of the entries below the limit, and return how many they are."""
    m = 0
    for j in range(d.size):  # without a branch: which entries are near is hard to predict
        near[m] = d[j]
        m += beta * d[j] + shift < limit
    return m


@strict
def _weights(d, beta, shift, x, p):  # type: ignore[no-untyped-def]
    """Write x = -log p and p."""
    for j in range(d.size):
        x[j] = beta * d[j] + shift
        p[j] = exp_nonpositive(-x[j])


@strict
def _smallest_kept(x, p, limit, far, tail_mass, inside):  # type: ignore[no-untyped-def]
    """Return the largest x that stays when the smallest p go first, after what is far.

    The interval in which the tail is full is cut in four until a sort of what is inside costs
    nothing.
    """
    low, high, tail = 0.0, limit, far
    while high - low > NARROW:
        step = 0.25 * (high - low)
        first, second, third = low + step, low + 2.0 * step, low + 3.0 * step
        a, b, c = _masses_beyond(x, p, first, second, third)
        if far + c > tail_mass:
            low = third
        elif far + b > tail_mass:
            low, high, tail = second, third, far + c
        elif far + a > tail_mass:
            low, high, tail = first, second, far + b
        else:
            high, tail = first, far + a
    n = 0
    for j in range(x.size):
        if low <= x[j] < high:
            inside[n] = x[j]
            n += 1
    ascending = np.sort(inside[:n])
    for k in range(n - 1, 0, -1):
        tail += exp_nonpositive(-ascending[k])
        if tail > tail_mass:
            return ascending[k]
    return ascending[0] if n > 0 else low


@summation
def _masses_beyond(x, p, first, second, third):  # type: ignore[no-untyped-def]
    """Return the masses of the entries from each of three values of x on."""
    a, b, c = 0.0, 0.0, 0.0
    for j in range(x.size):
        a += p[j] if x[j] >= first else 0.0
        b += p[j] if x[j] >= second else 0.0
        c += p[j] if x[j] >= third else 0.0
    return a, b, c


@strict
def _cutoff(d, x, largest):  # type: ignore[no-untyped-def]
    """Return the largest distance among entries up to x."""
    cutoff = np.int64(0)
    distances = d.view(np.int64)  # in the order of their bits: see `calibration._least`
    for j in range(d.size):
        cutoff = max(cutoff, distances[j] if x[j] <= largest else np.int64(0))
    return np.int64(cutoff).view(np.float64)


@summation
def _sums(d, x, p, cutoff):  # type: ignore[no-untyped-def]
    """Return how many entries are within the cutoff, their mass and moment, and the mass beyond."""
    count, mass, moment, lost = 0.0, 0.0, 0.0, 0.0
    for j in range(d.size):
        inside = d[j] <= cutoff
        count += 1.0 if inside else 0.0
        mass += p[j] if inside else 0.0
        moment += p[j] * x[j] if inside else 0.0
        lost += 0.0 if inside else p[j]
    return count, mass, moment, lost


def add_column_masses(
    distances_back: FloatArray,
    rows: slice,
    columns: slice,
    whole: Calibration,
    cut: Calibration,
    weighted: FloatArray,
    lost: FloatArray,
) -> None:
    """Add a tile's share of what other rows dropped to a_i and b_i, which bound the error.

    Parameters
    ----------
    distances_back : array of shape (r, c), float64
        d_ji.
    rows, columns : slice
        Which points the tile's rows and columns are.
    whole, cut : Calibration
        Of all points, before and after truncation.
    weighted : array of shape (r,)
        a_i = sum_j p_{i|j} m_j is added, m_j the mass that row j dropped.
    lost : array of shape (r,)
        b_i = the sum of the p_{i|j} that were dropped is added.
    """
    _add_column_masses(
        distances_back,
        rows.start - columns.start,
        whole.precision[columns],
        whole.log_normaliser[columns],
        cut.cutoff[columns],
        cut.dropped[columns],
        weighted,
        lost,
    )


@strict
def _add_column_masses(back, diagonal, beta, shift, cutoff, dropped, weighted, lost):  # type: ignore[no-untyped-def]
    p = np.empty(back.shape[1])
    for i in range(back.shape[0]):
        for j in range(p.size):
            p[j] = exp_nonpositive(-(beta[j] * back[i, j]) - shift[j])
        if 0 <= diagonal + i < p.size:
            p[diagonal + i] = 0.0
        a, b = _masses(p, back[i], cutoff, dropped)
        weighted[i] += a
        lost[i] += b


@summation
def _masses(p, back, cutoff, dropped):  # type: ignore[no-untyped-def]
    a = 0.0
    b = 0.0
    for j in range(p.size):
        a += p[j] * dropped[j]
        b += 0.0 if back[j] <= cutoff[j] else p[j]
    return a, b

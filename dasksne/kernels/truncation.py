"""Rows of P without their tails: the largest entries, until what is dropped weighs at most t."""

import math

import numpy as np

from dasksne.kernels.calibration import Calibration
from dasksne.kernels.compiled import SMALLEST_EXPONENT, exp_nonpositive, strict, summation
from dasksne.types import FloatArray

BINS_PER_NAT = 8
N_BINS = 512
"""Of -log p: from 0 to 64 nats, and the last holds all that is smaller."""


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
    x = np.empty(distances.shape[1])
    p = np.empty(distances.shape[1])
    for i in range(distances.shape[0]):
        d = distances[i]
        _weights(d, precision[i], log_normaliser[i], x, p)
        x[first_row + i] = np.inf
        p[first_row + i] = 0.0
        cutoff[i] = _cutoff(d, x, _smallest_kept(x, p, tail_mass))
        count, mass, moment, lost = _sums(d, x, p, cutoff[i])
        # The point itself is nearer than the cutoff, and no entry.
        kept[i] = count - 1.0
        dropped[i] = lost
        log_normaliser[i] += math.log(mass)
        entropy[i] = moment / mass + math.log(mass)


@strict
def _weights(d, beta, shift, x, p):  # type: ignore[no-untyped-def]
    """Write x = -log p and p."""
    for j in range(d.size):
        x[j] = beta * d[j] + shift
        p[j] = exp_nonpositive(-x[j])


@strict
def _smallest_kept(x, p, tail_mass):  # type: ignore[no-untyped-def]
    """Return the largest x that stays when the smallest p go first.

    A histogram finds the bin in which the tail is full, a sort of that bin's entries the place.
    """
    mass = np.zeros(N_BINS)
    for j in range(x.size):
        mass[_bin(x[j])] += p[j]
    tail = 0.0
    last = N_BINS - 1
    while last > 0 and tail + mass[last] <= tail_mass:
        tail += mass[last]
        last -= 1
    low = last / BINS_PER_NAT if last > 0 else -np.inf
    high = (last + 1) / BINS_PER_NAT if last < N_BINS - 1 else -SMALLEST_EXPONENT
    inside = np.empty(x.size)
    n = 0
    for j in range(x.size):
        if low <= x[j] < high:
            inside[n] = x[j]
            n += 1
    inside = np.sort(inside[:n])
    for k in range(n - 1, 0, -1):
        tail += exp_nonpositive(-inside[k])
        if tail > tail_mass:
            return inside[k]
    return inside[0]


@strict
def _bin(x):  # type: ignore[no-untyped-def]
    return np.uintp(min(max(x * BINS_PER_NAT, 0.0), N_BINS - 1.0))


@summation
def _cutoff(d, x, largest):  # type: ignore[no-untyped-def]
    """Return the largest distance among entries up to x."""
    cutoff = 0.0
    for j in range(d.size):
        cutoff = max(cutoff, d[j] if x[j] <= largest else 0.0)
    return cutoff


@summation
def _sums(d, x, p, cutoff):  # type: ignore[no-untyped-def]
    """Return how many entries are within the cutoff, their mass and moment, and the mass beyond."""
    count, mass, moment, lost = 0.0, 0.0, 0.0, 0.0
    for j in range(d.size):
        inside = d[j] <= cutoff
        count += 1.0 if inside else 0.0
        mass += p[j] if inside else 0.0
        moment += p[j] * x[j] if inside & (p[j] > 0.0) else 0.0
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

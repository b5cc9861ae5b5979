"""What the columns of P lose where its rows drop their tails, from above: terms of a bound.

Each entry is counted in whole units, rounded up: sums of integers have the same bits in any order,
so that tasks may add up rows of P, each for all columns, or columns, each over all rows.
"""

import math

import numpy as np

from dasksne.kernels.calibration import Calibration
from dasksne.kernels.compiled import exp_nonpositive, strict
from dasksne.types import FloatArray, IntArray

SMALLEST_SHARE = 1 / 16
"""Of tail_mass / N: an entry that is smaller is not counted. All those of a column weigh less than
this share of tail_mass."""
UNITS = 64
"""In the smallest entry that is counted."""


def add_losses(
    distances: FloatArray, first_row: int, cut: Calibration, tail_mass: float, lost: IntArray
) -> None:
    """Add what some rows drop of each column, in units; see `masses_lost`.

    Parameters
    ----------
    distances : array of shape (r, N), float64
        Squared distances from points first_row, first_row + 1, ... to all points.
    first_row : int
    cut : Calibration
        Of the rows, truncated.
    tail_mass : float
    lost : array of shape (N,), int64
        Changed.
    """
    limit, scale = _limit_and_scale(tail_mass, lost.size)
    _add_losses(distances, first_row, *cut.numbers(), limit, scale, lost)


def add_own_losses(
    distances_back: FloatArray,
    rows: slice,
    columns: slice,
    cut: Calibration,
    tail_mass: float,
    lost: IntArray,
) -> None:
    """Add what other rows drop of the columns that belong to some points, as `add_losses` does.

    Parameters
    ----------
    distances_back : array of shape (r, c), float64
        d_ji.
    rows, columns : slice
        Which points the tile's rows and columns are: the rows are those whose columns of P lose.
    cut : Calibration
        Of all points, truncated.
    tail_mass : float
    lost : array of shape (r,), int64
        Changed.
    """
    limit, scale = _limit_and_scale(tail_mass, cut.precision.size)
    diagonal, numbers = rows.start - columns.start, cut.numbers(columns)
    _add_own_losses(distances_back, diagonal, *numbers, limit, scale, lost)


def masses_lost(lost: IntArray, cut: Calibration, tail_mass: float) -> FloatArray:
    """Return the most that each column loses, from what was counted; arrays of all points."""
    n = lost.size
    uncounted = SMALLEST_SHARE * tail_mass * np.count_nonzero(cut.dropped) / n
    return np.asarray(_unit(tail_mass, n) * lost + uncounted)


def _unit(tail_mass: float, n_points: int) -> float:
    return SMALLEST_SHARE * tail_mass / (UNITS * n_points)


def _limit_and_scale(tail_mass: float, n_points: int) -> tuple[float, float]:
    """Return -log of the smallest entry that is counted, and how many units are in 1."""
    unit = _unit(tail_mass, n_points)
    return -math.log(UNITS * unit), 1.0 / unit


@strict
def _add_losses(distances, first_row, beta, nearest, shift, cutoff, limit, scale, lost):  # type: ignore[no-untyped-def]
    n = distances.shape[1]
    near, p = np.empty(n + 1, np.int32), np.empty(n)
    for i in range(distances.shape[0]):
        d, b, s, own = distances[i], beta[i], shift[i], first_row + i
        least = nearest[i]
        m = 0
        for j in range(n):  # without a branch: which are counted is hard to predict
            near[m] = j
            m += (d[j] > cutoff[i]) & (b * (d[j] - least) + s < limit)
        for k in range(m):
            p[k] = -(b * (d[near[k]] - least)) - s
        for k in range(m):
            p[k] = exp_nonpositive(p[k])
        mine = lost[own]
        for k in range(m):
            lost[near[k]] += np.int64(scale * p[k]) + 1
        lost[own] = mine


@strict
def _add_own_losses(back, diagonal, beta, nearest, shift, cutoff, limit, scale, lost):  # type: ignore[no-untyped-def]
    n = back.shape[1]
    near, p = np.empty(n + 1, np.int32), np.empty(n)
    for i in range(back.shape[0]):
        d, own = back[i], diagonal + i
        m = 0
        for j in range(n):
            near[m] = j
            x = beta[j] * (d[j] - nearest[j]) + shift[j]
            m += (d[j] > cutoff[j]) & (x < limit) & (j != own)
        for k in range(m):
            j = near[k]
            p[k] = -(beta[j] * (d[j] - nearest[j])) - shift[j]
        for k in range(m):
            p[k] = exp_nonpositive(p[k])
        for k in range(m):
            lost[i] += np.int64(scale * p[k]) + 1

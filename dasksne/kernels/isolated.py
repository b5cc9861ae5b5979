"""Rows of Q whose points are so far off that only a sum relative to the nearest point is accurate.

|y_i - y_j|^2 is used relative to the nearest point m of i, in the product form

    |y_i - y_j|^2 - |y_i - y_m|^2 = (y_m - y_j) . ((y_i - y_j) + (y_i - y_m)),

because the squares of an outlier at 10^6 round to 10^-4 and their difference decides q_{j|i}.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dasksne.kernels.compiled import exp_nonpositive, part_of, strict, summation
from dasksne.types import FloatArray

COLUMN_TILE = 1024
"""Columns worked on at once: their excess distances stay in the first-level cache."""


class IsolatedRows(NamedTuple):
    """What gives q_{j|i} = exp(-excess_ij) / total_i of some rows i, shape (m,) each.

    Of a point that counts c_i times it is c_i q_{j|i}, of one copy of j.
    """

    row: npt.NDArray[np.int64]
    nearest: npt.NDArray[np.int64]
    total: FloatArray


def joined(parts: Sequence[IsolatedRows]) -> IsolatedRows:
    """Return the isolated rows of all parts as one."""
    return IsolatedRows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def isolated_rows(
    y: FloatArray, row: npt.NDArray[np.int64], counts: FloatArray | None = None
) -> tuple[IsolatedRows, FloatArray, FloatArray]:
    """Return some rows of Q, their log Z, and c_i sum_j c_j q_{j|i} (y_i - y_j), shape (d, m).

    Parameters
    ----------
    y : array of shape (d, N), float64
        The map, transposed.
    row : array of shape (m,), int64
    counts : array of shape (N,), float64, optional
        c, how often each point counts; once unless given.
    """
    found = IsolatedRows(row, np.empty(row.size, dtype=np.int64), np.empty(row.size))
    log_z = np.empty(row.size)
    push = np.zeros((y.shape[0], row.size))
    _isolated_rows(y, counts, *found, log_z, push)
    return found, log_z, push


def add_reactions(
    y: FloatArray,
    isolated: IsolatedRows,
    rows: slice,
    out: FloatArray,
    counts: FloatArray | None = None,
) -> None:
    """Add c_j sum_i c_i q_{j|i} (y_j - y_i) over isolated i to the rows j.

    Parameters
    ----------
    y : array of shape (d, N), float64
        The map, transposed.
    isolated : IsolatedRows
    rows : slice
    out : array of shape (d, rows), float64
        Added to.
    counts : array of shape (N,), float64, optional
        As for `isolated_rows`.
    """
    _add_reactions(y, counts, *isolated, rows.start, out)


@strict
def _isolated_rows(y, counts, row, nearest, total, log_z, push):  # type: ignore[no-untyped-def]
    q = np.empty(COLUMN_TILE)
    for a in range(row.size):
        i = row[a]
        # Relative to any other point first; then relative to the one found, to full accuracy.
        m = _least_excess(y, i, _least_excess(y, i, 1 if i == 0 else 0, q), q)
        sum_q = 0.0
        if counts is not None and counts[i] > 1.0:
            m = i  # another copy
            sum_q = counts[i] - 1.0
        for start in range(0, y.shape[1], COLUMN_TILE):
            width = min(COLUMN_TILE, y.shape[1] - start)
            _excess(y, i, m, start, q[:width])
            sum_q += _exponentials(q[:width], part_of(counts, start, start + width))
            for k in range(y.shape[0]):
                push[k, a] += push_of(y[k, start : start + width], y[k, i], q[:width])
        squared = 0.0
        for k in range(y.shape[0]):
            squared += (y[k, i] - y[k, m]) ** 2
        log_z[a] = math.log(sum_q) - squared
        if counts is not None:
            sum_q /= counts[i]
        for k in range(y.shape[0]):
            push[k, a] /= sum_q
        nearest[a] = m
        total[a] = sum_q


@strict
def _add_reactions(y, counts, row, nearest, total, first_row, out):  # type: ignore[no-untyped-def]
    q = np.empty(COLUMN_TILE)
    for a in range(row.size):
        i = row[a]
        for start in range(0, out.shape[1], COLUMN_TILE):
            width = min(COLUMN_TILE, out.shape[1] - start)
            first = first_row + start
            _excess(y, i, nearest[a], first, q[:width])
            _exponentials(q[:width], part_of(counts, first, first + width))
            for k in range(y.shape[0]):
                for j in range(width):
                    at = y[k, first + j]
                    out[k, start + j] += q[j] / total[a] * (at - y[k, i])


@strict
def _excess(y, i, m, start, out):  # type: ignore[no-untyped-def]
    """Write |y_i - y_j|^2 - |y_i - y_m|^2 for a tile of points j; infinity for i itself."""
    out[:] = 0.0
    for k in range(y.shape[0]):
        column = y[k, start : start + out.size]
        at = y[k, i]
        near = y[k, m]
        for j in range(out.size):
            out[j] += (near - column[j]) * ((at - column[j]) + (at - near))
    if start <= i < start + out.size:
        out[i - start] = np.inf


@strict
def _least_excess(y, i, m, work):  # type: ignore[no-untyped-def]
    least = np.inf
    best = m
    for start in range(0, y.shape[1], COLUMN_TILE):
        excess = work[: min(COLUMN_TILE, y.shape[1] - start)]
        _excess(y, i, m, start, excess)
        for j in range(excess.size):
            if excess[j] < least:
                least = excess[j]
                best = start + j
    return best


@summation
def _exponentials(x, counts):  # type: ignore[no-untyped-def]
    """Replace x by exp(-x), as often as it counts, and return the sum.

    x < 0 is a tie with the nearest, rounded.
    """
    total = 0.0
    for j in range(x.size):
        x[j] = exp_nonpositive(-max(x[j], 0.0))
        if counts is not None:
            x[j] *= counts[j]
        total += x[j]
    return total


@summation
def push_of(column, at, weights):  # type: ignore[no-untyped-def]
    """Return sum_j weights_j (at - column_j)."""
    push = 0.0
    for j in range(weights.size):
        push += weights[j] * (at - column[j])
    return push

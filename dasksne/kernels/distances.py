"""Squared Euclidean distances between rows of X, by differences.

Differences lose nothing to cancellation, whatever the shift or the grouping of the data, and give
the same bits for (i, j) and (j, i); compiled for the machine's vectors they cost about what a
matrix product costs.
"""

import numpy as np

from dasksne.kernels.compiled import strict
from dasksne.types import FloatArray

TILE = 256
"""Columns worked on at once: four rows of sums and four of data stay in the first-level cache."""


def squared_distances(
    rows: FloatArray, columns: FloatArray, out: FloatArray, first_column: int = 0
) -> None:
    """Write |rows_i - columns_j|^2 to out.

    Parameters
    ----------
    rows : array of shape (r, D), float64
    columns : array of shape (c, D), float64
    out : array of shape (r, first_column + c) or wider, float64
        Overwritten from column first_column on.
    first_column : int
    """
    _squared_distances(rows, columns, out, first_column)


@strict
def _squared_distances(rows, columns, out, first_column):  # type: ignore[no-untyped-def]
    n_rows, n_features = rows.shape
    n_columns = columns.shape[0]
    tile = np.zeros(n_features * TILE)
    sums = np.empty(4 * TILE)
    for start in range(0, n_columns, TILE):
        width = min(TILE, n_columns - start)
        _pack(columns[start : start + width], tile)
        for i in range(0, n_rows, 4):
            _four_rows(rows, i, tile, sums)
            for r in range(min(4, n_rows - i)):
                at = first_column + start
                out[i + r, at : at + width] = sums[r * TILE : r * TILE + width]


@strict
def _pack(columns, tile):  # type: ignore[no-untyped-def]
    """Write one feature after another, TILE values each."""
    # Of a slice: an index that may be negative would be looked at before each read.
    for k in range(columns.shape[1]):
        for j in range(columns.shape[0]):
            tile[k * TILE + j] = columns[j, k]


@strict
def _four_rows(rows, i, tile, sums):  # type: ignore[no-untyped-def]
    """Sum four features at a time for four rows: each loaded column value is used four times."""
    n_features = rows.shape[1]
    last = rows.shape[0] - 1
    a = rows[i]
    b = rows[min(i + 1, last)]
    c = rows[min(i + 2, last)]
    d = rows[min(i + 3, last)]
    sums[:] = 0.0
    whole = n_features - n_features % 4
    for k in range(0, whole, 4):
        a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
        b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
        c0, c1, c2, c3 = c[k], c[k + 1], c[k + 2], c[k + 3]
        d0, d1, d2, d3 = d[k], d[k + 1], d[k + 2], d[k + 3]
        at = k * TILE
        for j in range(TILE):
            x0 = tile[at + j]
            x1 = tile[at + TILE + j]
            x2 = tile[at + 2 * TILE + j]
            x3 = tile[at + 3 * TILE + j]
            # One after another, each square and its sum are one instruction.
            at_b, at_c, at_d = TILE + j, 2 * TILE + j, 3 * TILE + j
            s = sums[j] + (a0 - x0) ** 2 + (a1 - x1) ** 2
            sums[j] = s + (a2 - x2) ** 2 + (a3 - x3) ** 2
            s = sums[at_b] + (b0 - x0) ** 2 + (b1 - x1) ** 2
            sums[at_b] = s + (b2 - x2) ** 2 + (b3 - x3) ** 2
            s = sums[at_c] + (c0 - x0) ** 2 + (c1 - x1) ** 2
            sums[at_c] = s + (c2 - x2) ** 2 + (c3 - x3) ** 2
            s = sums[at_d] + (d0 - x0) ** 2 + (d1 - x1) ** 2
            sums[at_d] = s + (d2 - x2) ** 2 + (d3 - x3) ** 2
    for k in range(whole, n_features):
        at = k * TILE
        for j in range(TILE):
            x = tile[at + j]
            sums[j] += (a[k] - x) ** 2
            sums[TILE + j] += (b[k] - x) ** 2
            sums[2 * TILE + j] += (c[k] - x) ** 2
            sums[3 * TILE + j] += (d[k] - x) ** 2


def directions(values: FloatArray) -> FloatArray:
    """Return rows of length one, whatever their length was; NaN where a row is zero."""
    with np.errstate(invalid="ignore"):
        # Squares of the quotients neither overflow nor vanish.
        values = values / np.max(np.abs(values), axis=1, keepdims=True)
        unit: FloatArray = values / np.sqrt(np.sum(values * values, axis=1, keepdims=True))
    return unit

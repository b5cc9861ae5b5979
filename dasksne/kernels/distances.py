"""Squared Euclidean distances between rows of X, by differences.

Differences lose nothing to cancellation, whatever the shift or the grouping of the data, and give
the same bits for (i, j) and (j, i); compiled for the machine's vectors they cost about what a
matrix product costs.
"""

import numpy as np

from dasksne.kernels.compiled import strict
from dasksne.kernels.panel import WIDTH, squares_of_panel
from dasksne.types import FloatArray

TILE = 256
"""Columns worked on at once: those of a few features stay in the caches."""


def squared_distances(
    rows: FloatArray, columns: FloatArray, out: FloatArray, first_column: int = 0
) -> None:
    """Write |rows_i - columns_j|^2 to out.

    Parameters
    ----------
    rows : array of shape (r, D), float64, C-contiguous
        With one feature at least.
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
    sums = np.empty((4, TILE))
    for start in range(0, n_columns, TILE):
        width = min(TILE, n_columns - start)
        _pack(columns[start : start + width], tile)
        for i in range(0, n_rows, 4):
            _four_rows(rows, i, tile, width, sums)
            for r in range(min(4, n_rows - i)):
                at = first_column + start
                out[i + r, at : at + width] = sums[r, :width]


@strict
def _pack(columns, tile):  # type: ignore[no-untyped-def]
    """Write panel after panel: of each one feature after another, WIDTH values each."""
    n_columns, n_features = columns.shape
    for start in range(0, n_columns, WIDTH):
        # Of a slice: an index that may be negative would be looked at before each write.
        panel = tile[start * n_features : (start + WIDTH) * n_features]
        for j in range(min(WIDTH, n_columns - start)):
            for k in range(n_features):
                panel[k * WIDTH + j] = columns[start + j, k]


@strict
def _four_rows(rows, i, tile, width, sums):  # type: ignore[no-untyped-def]
    """Sum for four rows, so that each loaded column value is used four times."""
    n_features = rows.shape[1]
    last = rows.shape[0] - 1
    four = rows[i], rows[min(i + 1, last)], rows[min(i + 2, last)], rows[min(i + 3, last)]
    for start in range(0, width, WIDTH):
        panel = tile[start * n_features : (start + WIDTH) * n_features]
        stop = start + WIDTH
        places = sums[0, start:stop], sums[1, start:stop], sums[2, start:stop], sums[3, start:stop]
        squares_of_panel(four, panel, places)


def directions(values: FloatArray) -> FloatArray:
    """Return rows of length one, whatever their length was; NaN where a row is zero."""
    with np.errstate(invalid="ignore"):
        # Squares of the quotients neither overflow nor vanish.
        values = values / np.max(np.abs(values), axis=1, keepdims=True)
        unit: FloatArray = values / np.sqrt(np.sum(values * values, axis=1, keepdims=True))
    return unit

"""The repulsion over all pairs: R_i = sum_j (q_{j|i} + q_{i|j}) (y_i - y_j), and what it needs."""

import math

import numpy as np

from dasksne.kernels.compiled import exp_nonpositive, strict, summation
from dasksne.types import FloatArray

COLUMN_TILE = 1024
"""Columns worked on at once: their coordinates and weights stay in the first-level cache."""

SMALLEST_PLAIN_SUM = 1e-280
"""A row whose plain sum of exponentials is below this is summed again relative to its nearest."""

WIDEST_PLAIN_RANGE = 600.0
"""Range of log Z within which exp(log Z_i - log Z_j) can neither overflow nor lose a digit."""


def log_normalisers(y: FloatArray, rows: slice) -> FloatArray:
    """Return log Z_i = log sum_{j != i} exp(-|y_i - y_j|^2) of some rows.

    Parameters
    ----------
    y : array of shape (d, N), float64
        The map, transposed.
    rows : slice
    """
    out = np.empty(rows.stop - rows.start)
    _log_normalisers(y, rows.start, out)
    return out


def repulsion(y: FloatArray, log_z: FloatArray, rows: slice) -> FloatArray:
    """Return R_i of some rows, shape (r, d).

    Parameters
    ----------
    y : array of shape (d, N), float64
        The map, transposed.
    log_z : array of shape (N,), float64
        Of all rows.
    rows : slice
    """
    out = np.zeros((rows.stop - rows.start, y.shape[0]))
    middle = 0.5 * (log_z.max() + log_z.min())
    if log_z.max() - log_z.min() <= WIDEST_PLAIN_RANGE:
        _repulsion(y, log_z, np.exp(middle - log_z), middle, rows.start, out)
    else:
        _repulsion_wide(y, log_z, rows.start, out)
    return out


@strict
def _log_normalisers(y, first_row, out):  # type: ignore[no-untyped-def]
    d = np.empty(COLUMN_TILE)
    for i in range(out.size):
        own = first_row + i
        total = 0.0
        for start in range(0, y.shape[1], COLUMN_TILE):
            width = _tile_distances(y, own, start, d)
            total += _sum_exp(d[:width], 0.0)
        out[i] = math.log(total) if total >= SMALLEST_PLAIN_SUM else _log_sum_exp(y, own, d)


@strict
def _log_sum_exp(y, own, d):  # type: ignore[no-untyped-def]
    nearest = np.inf
    for start in range(0, y.shape[1], COLUMN_TILE):
        for j in range(_tile_distances(y, own, start, d)):
            nearest = min(nearest, d[j])
    total = 0.0
    for start in range(0, y.shape[1], COLUMN_TILE):
        width = _tile_distances(y, own, start, d)
        total += _sum_exp(d[:width], nearest)
    return math.log(total) - nearest


@strict
def _repulsion(y, log_z, inverse_z, middle, first_row, out):  # type: ignore[no-untyped-def]
    """One exponential a pair: q_{i|j} = q_{j|i} Z_i / Z_j."""
    w = np.empty(COLUMN_TILE)
    for i in range(out.shape[0]):
        own = first_row + i
        z = math.exp(log_z[own] - middle)
        for start in range(0, y.shape[1], COLUMN_TILE):
            width = _tile_distances(y, own, start, w)
            for j in range(width):
                q = exp_nonpositive(-w[j] - log_z[own])
                w[j] = q + q * z * inverse_z[start + j]
            _push(y, own, start, w[:width], out[i])


@strict
def _repulsion_wide(y, log_z, first_row, out):  # type: ignore[no-untyped-def]
    """Two exponentials a pair, for a map with points so far off that Z_i / Z_j overflows."""
    w = np.empty(COLUMN_TILE)
    for i in range(out.shape[0]):
        own = first_row + i
        for start in range(0, y.shape[1], COLUMN_TILE):
            width = _tile_distances(y, own, start, w)
            for j in range(width):
                w[j] = exp_nonpositive(-w[j] - log_z[own]) + exp_nonpositive(
                    -w[j] - log_z[start + j]
                )
            _push(y, own, start, w[:width], out[i])


@strict
def _tile_distances(y, own, start, out):  # type: ignore[no-untyped-def]
    """Write squared distances from one point to a tile of points; infinity to itself."""
    width = min(COLUMN_TILE, y.shape[1] - start)
    out[:width] = 0.0
    for k in range(y.shape[0]):
        at = y[k, own]
        column = y[k, start : start + width]
        for j in range(width):
            out[j] += (at - column[j]) ** 2
    if start <= own < start + width:
        out[own - start] = np.inf
    return width


@summation
def _sum_exp(d, shift):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(d.size):
        total += exp_nonpositive(shift - d[j])
    return total


@summation
def _push(y, own, start, w, force):  # type: ignore[no-untyped-def]
    for k in range(y.shape[0]):
        at = y[k, own]
        column = y[k, start : start + w.size]
        push = 0.0
        for j in range(w.size):
            push += w[j] * (at - column[j])
        force[k] += push

"""The repulsion R_i = sum_j (q_{j|i} + q_{i|j}) (y_i - y_j) over all pairs, in two passes.

The first finds the normalisers of some rows of Q, the second their forces, which need the
normalisers of all rows.
"""

from typing import NamedTuple

import numpy as np

from dasksne.kernels.compiled import exp_nonpositive, strict, summation
from dasksne.kernels.isolated import IsolatedRows, add_reactions, isolated_rows
from dasksne.types import FloatArray

COLUMN_TILE = 1024
"""Columns worked on at once: their coordinates and weights stay in the first-level cache."""

SMALLEST_PLAIN_SUM = 1e-200
"""A row whose sum of exponentials is below this is summed again relative to its nearest point."""


class FirstPass(NamedTuple):
    """What the first pass finds for some rows."""

    rows: slice
    log_z: FloatArray
    """log Z_i = log sum_{j != i} exp(-|y_i - y_j|^2), shape (rows,)."""
    weights: FloatArray
    """w_i = 1 / Z_i, and 0 for isolated rows, shape (rows,)."""
    repulsion: FloatArray
    """The part of R_i known so far, shape (d, rows)."""
    isolated: IsolatedRows
    """The isolated rows among them, numbered from the map's first row."""


def first_pass(rows: slice, y: FloatArray) -> FirstPass:
    """Return the normalisers of some rows.

    Parameters
    ----------
    rows : slice
    y : array of shape (d, N), float64
        The map, transposed.
    """
    z = np.empty(rows.stop - rows.start)
    _normalisers(y, rows.start, z)
    trusted = z >= SMALLEST_PLAIN_SUM
    log_z = np.log(z, where=trusted, out=np.empty_like(z))
    weights = np.divide(1.0, z, where=trusted, out=np.zeros_like(z))
    force = np.zeros((y.shape[0], z.size))
    alone = np.flatnonzero(~trusted)
    isolated, log_z[alone], force[:, alone] = isolated_rows(y, rows.start + alone)
    return FirstPass(rows, log_z, weights, force, isolated)


def second_pass(
    first: FirstPass, y: FloatArray, weights: FloatArray, isolated: IsolatedRows
) -> FloatArray:
    """Return R_i of the rows of a first pass, shape (rows, d).

    Parameters
    ----------
    first : FirstPass
    y : array of shape (d, N), float64
        The map, transposed.
    weights : array of shape (N,), float64
        Of the first passes of all rows.
    isolated : IsolatedRows
        Of the whole map.
    """
    force = first.repulsion.copy()
    _add_repulsion(y, weights, first.rows.start, force)
    add_reactions(y, isolated, first.rows, force)
    return np.ascontiguousarray(force.T)


@strict
def _normalisers(y, first_row, out):  # type: ignore[no-untyped-def]
    d = np.empty(COLUMN_TILE)
    for i in range(out.size):
        total = 0.0
        for start in range(0, y.shape[1], COLUMN_TILE):
            width = _tile_distances(y, first_row + i, start, d)
            total += _sum_exp(d[:width])
        out[i] = total


@strict
def _add_repulsion(y, weights, first_row, out):  # type: ignore[no-untyped-def]
    """Add sum_j exp(-|y_i - y_j|^2) (w_i + w_j) (y_i - y_j): one exponential for q both ways."""
    w = np.empty(COLUMN_TILE)
    for i in range(out.shape[1]):
        own = first_row + i
        for start in range(0, y.shape[1], COLUMN_TILE):
            width = _tile_distances(y, own, start, w)
            for j in range(width):
                w[j] = exp_nonpositive(-w[j]) * (weights[own] + weights[start + j])
            for k in range(y.shape[0]):
                out[k, i] += _push(y[k, start : start + width], y[k, own], w[:width])


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
def _sum_exp(d):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(d.size):
        total += exp_nonpositive(-d[j])
    return total


@summation
def _push(column, at, w):  # type: ignore[no-untyped-def]
    push = 0.0
    for j in range(w.size):
        push += w[j] * (at - column[j])
    return push

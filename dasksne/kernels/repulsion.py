"""The repulsion R_i = sum_j (q_{j|i} + q_{i|j}) (y_i - y_j) over all pairs, in two passes.

The first finds the normalisers of some rows of Q, the second their forces, which need the
normalisers of all rows.

A point i that counts c_i times is so many copies in one place, of which each is repelled by the
others' copies: Z_i = sum_j c_j exp(-|y_i - y_j|^2) - 1, and R_i, the sum of their forces, is
c_i sum_j c_j (q_{j|i} + q_{i|j}) (y_i - y_j), q of one copy picking one copy.
"""

from typing import NamedTuple

import numpy as np

from dasksne.kernels.compiled import exp_nonpositive, part_of, strict, summation
from dasksne.kernels.isolated import (
    COLUMN_TILE,
    IsolatedRows,
    add_reactions,
    isolated_rows,
    push_of,
)
from dasksne.types import FloatArray

SMALLEST_PLAIN_SUM = 1e-200
"""A row whose sum of exponentials is below this is summed again relative to its nearest point."""


class FirstPass(NamedTuple):
    """What the first pass finds for some rows."""

    rows: slice
    log_z: FloatArray
    """log Z_i = log sum_{j != i} exp(-|y_i - y_j|^2), shape (rows,)."""
    weights: FloatArray
    """w_i = c_i / Z_i, and 0 for isolated rows, shape (rows,)."""
    repulsion: FloatArray
    """The part of R_i known so far, shape (d, rows)."""
    isolated: IsolatedRows
    """The isolated rows among them, numbered from the map's first row."""


def first_pass(rows: slice, y: FloatArray, counts: FloatArray | None = None) -> FirstPass:
    """Return the normalisers of some rows.

    Parameters
    ----------
    rows : slice
    y : array of shape (d, N), float64
        The map, transposed.
    counts : array of shape (N,), float64, optional
        c, how often each point counts; once unless given.
    """
    z = np.empty(rows.stop - rows.start)
    _normalisers(y, counts, rows.start, z)
    trusted = z >= SMALLEST_PLAIN_SUM
    log_z = np.log(z, where=trusted, out=np.empty_like(z))
    own = 1.0 if counts is None else counts[rows]
    weights = np.divide(own, z, where=trusted, out=np.zeros_like(z))
    force = np.zeros((y.shape[0], z.size))
    alone = np.flatnonzero(~trusted)
    isolated, log_z[alone], force[:, alone] = isolated_rows(y, rows.start + alone, counts)
    return FirstPass(rows, log_z, weights, force, isolated)


def second_pass(
    first: FirstPass,
    y: FloatArray,
    weights: FloatArray,
    isolated: IsolatedRows,
    counts: FloatArray | None = None,
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
    counts : array of shape (N,), float64, optional
        As for the first pass.
    """
    force = first.repulsion.copy()
    _add_repulsion(y, weights, counts, first.rows.start, force)
    add_reactions(y, isolated, first.rows, force, counts)
    return np.ascontiguousarray(force.T)


@strict
def _normalisers(y, counts, first_row, out):  # type: ignore[no-untyped-def]
    d = np.empty(COLUMN_TILE)
    for i in range(out.size):
        total = 0.0
        if counts is not None:
            total += counts[first_row + i] - 1.0
        for start in range(0, y.shape[1], COLUMN_TILE):
            width = _tile_distances(y, first_row + i, start, d)
            total += _sum_exp(d[:width], part_of(counts, start, start + width))
        out[i] = total


@strict
def _add_repulsion(y, weights, counts, first_row, out):  # type: ignore[no-untyped-def]
    """Add sum_j exp(-|y_i - y_j|^2) (c_j w_i + c_i w_j) (y_i - y_j).

    One exponential serves q both ways.
    """
    w = np.empty(COLUMN_TILE)
    for i in range(out.shape[1]):
        own = first_row + i
        for start in range(0, y.shape[1], COLUMN_TILE):
            width = _tile_distances(y, own, start, w)
            for j in range(width):
                both = weights[own] + weights[start + j]
                if counts is not None:
                    both = counts[start + j] * weights[own] + counts[own] * weights[start + j]
                w[j] = exp_nonpositive(-w[j]) * both
            for k in range(y.shape[0]):
                out[k, i] += push_of(y[k, start : start + width], y[k, own], w[:width])


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
def _sum_exp(d, counts):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(d.size):
        e = exp_nonpositive(-d[j])
        if counts is not None:
            e *= counts[j]
        total += e
    return total

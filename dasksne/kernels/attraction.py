"""The attraction: each point is pulled along S = P + P^T, a graph Laplacian times Y."""

import numpy as np

from dasksne.kernels.compiled import strict, summation
from dasksne.types import FloatArray, IntArray

COLUMN_TILE = 1024
"""Columns summed at once. A constant, so that a row's sum has the same bits however S is kept."""


def attraction(
    joint: FloatArray,
    y_rows: FloatArray,
    y: FloatArray,
    columns: slice,
    force: FloatArray,
    energy: FloatArray,
) -> None:
    """Add a block of columns' share of the attraction to force and energy.

    Parameters
    ----------
    joint : array of shape (r, c)
        S_ij = p_{j|i} + p_{i|j}.
    y_rows : array of shape (r, d), float64
    y : array of shape (d, N), float64
        The map, transposed so that neighbours in memory are neighbours in a sum.
    columns : slice
        Which points the columns are.
    force : array of shape (r, d), float64
        A_i = sum_j S_ij (y_i - y_j) is added.
    energy : array of shape (r,), float64
        sum_j S_ij |y_i - y_j|^2 is added. Over all rows its half is sum_ij p_{j|i} |y_i - y_j|^2.
    """
    _attraction(joint, y_rows, y, columns.start, force, energy)


def sparse_attraction(
    data: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    y_rows: FloatArray,
    y: FloatArray,
    force: FloatArray,
    energy: FloatArray,
) -> None:
    """Add the attraction of rows of S in compressed form; as `attraction`.

    Parameters
    ----------
    data, indices, indptr : arrays
        Of a CSR matrix with r rows and N columns.
    y_rows : array of shape (r, d), float64
    y : array of shape (d, N), float64
    force, energy : arrays of shape (r, d) and (r,), float64
        Added to.
    """
    _sparse_attraction(data, indices, indptr, y_rows, y, force, energy)


@strict
def _attraction(joint, y_rows, y, first_column, force, energy):  # type: ignore[no-untyped-def]
    n_columns = joint.shape[1]
    for i in range(joint.shape[0]):
        for start in range(0, n_columns, COLUMN_TILE):
            stop = min(start + COLUMN_TILE, n_columns)
            weights = joint[i, start:stop]
            for k in range(y_rows.shape[1]):
                others = y[k, first_column + start : first_column + stop]
                pull, work = _pull(weights, y_rows[i, k], others)
                force[i, k] += pull
                energy[i] += work


@summation
def _pull(weights, own, others):  # type: ignore[no-untyped-def]
    pull = 0.0
    work = 0.0
    for j in range(weights.size):
        difference = own - others[j]
        weighted = weights[j] * difference
        pull += weighted
        work += weighted * difference
    return pull, work


@strict
def _sparse_attraction(data, indices, indptr, y_rows, y, force, energy):  # type: ignore[no-untyped-def]
    for i in range(indptr.size - 1):
        start, stop = indptr[i], indptr[i + 1]
        for k in range(y_rows.shape[1]):
            pull, work = _sparse_pull(data[start:stop], indices[start:stop], y_rows[i, k], y[k])
            force[i, k] += pull
            energy[i] += work


@summation
def _sparse_pull(weights, indices, own, others):  # type: ignore[no-untyped-def]
    pull = 0.0
    work = 0.0
    for e in range(weights.size):
        # Unsigned: an index that could be negative would be tested for it at every entry.
        difference = own - others[np.uintp(indices[e])]
        weighted = weights[e] * difference
        pull += weighted
        work += weighted * difference
    return pull, work

"""The attraction: each point is pulled along S = P + P^T, a graph Laplacian times Y."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dasksne.kernels.compiled import strict, summation
from dasksne.kernels.pull import AT_ONCE, pull_of_pairs
from dasksne.types import FloatArray, IntArray

COLUMN_TILE = 1024
"""Columns summed at once. A constant, so that a row's sum has the same bits however S is kept."""


@dataclass(frozen=True)
class Places:
    """A map, laid out as the loops over it read it: each way when it is first asked for."""

    y: FloatArray
    """Shape (N, d), float64."""

    @cached_property
    def columns(self) -> FloatArray:
        """Shape (d, N): neighbours in memory are neighbours in a sum over all points."""
        return np.ascontiguousarray(self.y.T)

    @cached_property
    def pairs(self) -> FloatArray:
        """Shape (d // 2, N, 2): two coordinates of a point, which are needed together."""
        n_points, d = self.y.shape
        halves = self.y[:, : d // 2 * 2].reshape(n_points, d // 2, 2)
        return np.ascontiguousarray(halves.transpose(1, 0, 2))

    @cached_property
    def last(self) -> FloatArray:
        """Shape (N,): the last coordinate, which has no other where d is odd."""
        return np.ascontiguousarray(self.y[:, -1])


def attraction(
    joint: FloatArray,
    y_rows: FloatArray,
    y: FloatArray,
    columns: slice,
    force: FloatArray,
) -> None:
    """Add a block of columns' share of the attraction.

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
    """
    _attraction(joint, y_rows, y, columns.start, force)


def sparse_attraction(
    data: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    rows: slice,
    y: Places,
    force: FloatArray,
) -> None:
    """Add the attraction of rows of S in compressed form; as `attraction`.

    Parameters
    ----------
    data, indices, indptr : arrays
        Of a CSR matrix with r rows and N columns; indices are int32.
    rows : slice
        Which points the rows are.
    y : Places
        The map.
    force : array of shape (r, d), float64
        Added to.
    """
    _sparse_attraction(data, indices, indptr, rows.start, y.pairs, y.last, force)


@strict
def _attraction(joint, y_rows, y, first_column, force):  # type: ignore[no-untyped-def]
    n_columns = joint.shape[1]
    for i in range(joint.shape[0]):
        for start in range(0, n_columns, COLUMN_TILE):
            stop = min(start + COLUMN_TILE, n_columns)
            weights = joint[i, start:stop]
            for k in range(y_rows.shape[1]):
                others = y[k, first_column + start : first_column + stop]
                force[i, k] += _pull(weights, y_rows[i, k], others)


@summation
def _pull(weights, own, others):  # type: ignore[no-untyped-def]
    pull = 0.0
    for j in range(weights.size):
        pull += weights[j] * (own - others[j])
    return pull


@strict
def _sparse_attraction(data, indices, indptr, first_row, pairs, last, force):  # type: ignore[no-untyped-def]
    sums = np.empty(2)
    d = force.shape[1]
    for i in range(indptr.size - 1):
        start, stop = indptr[i], indptr[i + 1]
        for p in range(pairs.shape[0]):
            _pull_of_row(data[start:stop], indices[start:stop], pairs[p], first_row + i, sums)
            force[i, 2 * p] += sums[0]
            force[i, 2 * p + 1] += sums[1]
        if d % 2 == 1:
            own = last[first_row + i]
            force[i, d - 1] += _sparse_pull(data[start:stop], indices[start:stop], own, last)


@strict
def _pull_of_row(weights, indices, y, i, sums):  # type: ignore[no-untyped-def]
    """Write the pull of two coordinates; what is no multiple of AT_ONCE comes last."""
    whole = weights.size - weights.size % AT_ONCE
    pull_of_pairs(weights[:whole], indices[:whole], y[i], y, sums)
    for e in range(whole, weights.size):
        for k in range(2):
            sums[k] += weights[e] * (y[i, k] - y[indices[e], k])


@summation
def _sparse_pull(weights, indices, own, others):  # type: ignore[no-untyped-def]
    pull = 0.0
    for e in range(weights.size):
        # Unsigned: an index that could be negative would be tested for it at every entry.
        pull += weights[e] * (own - others[np.uintp(indices[e])])
    return pull

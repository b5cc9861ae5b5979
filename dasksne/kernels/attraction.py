"""The attraction: each point is pulled along S = P + P^T, a graph Laplacian times Y."""

from dasksne.kernels.compiled import summation
from dasksne.types import FloatArray

COLUMN_TILE = 1024
"""Columns summed at once. A constant, so that a row's sum has the same bits however S is kept."""


def attraction(
    joint: FloatArray,
    y_rows: FloatArray,
    y_columns: FloatArray,
    force: FloatArray,
    energy: FloatArray,
) -> None:
    """Add a block of columns' share of the attraction to force and energy.

    Parameters
    ----------
    joint : array of shape (r, c)
        S_ij = p_{j|i} + p_{i|j}.
    y_rows : array of shape (r, d), float64
    y_columns : array of shape (d, c), float64
        The columns' points, transposed so that neighbours in memory are neighbours in a sum.
    force : array of shape (r, d), float64
        A_i = sum_j S_ij (y_i - y_j) is added.
    energy : array of shape (r,), float64
        sum_j S_ij |y_i - y_j|^2 is added. Over all rows its half is sum_ij p_{j|i} |y_i - y_j|^2.
    """
    for start in range(0, joint.shape[1], COLUMN_TILE):
        tile = slice(start, start + COLUMN_TILE)
        _attraction(joint[:, tile], y_rows, y_columns[:, tile], force, energy)


@summation
def _attraction(joint, y_rows, y_columns, force, energy):  # type: ignore[no-untyped-def]
    for i in range(joint.shape[0]):
        s = joint[i]
        for k in range(y_rows.shape[1]):
            y = y_columns[k]
            own = y_rows[i, k]
            pull = 0.0
            work = 0.0
            for j in range(s.size):
                difference = own - y[j]
                weighted = s[j] * difference
                pull += weighted
                work += weighted * difference
            force[i, k] += pull
            energy[i] += work

"""Conditional and joint probabilities of the data from squared distances."""

import numpy as np

from dasksne.kernels.calibration import Calibration
from dasksne.kernels.compiled import SMALLEST_EXPONENT, exp_nonpositive, strict
from dasksne.types import FloatArray, IntArray

DROPPED = 2.0 * SMALLEST_EXPONENT
"""An exponent whose exponential is 0."""


def conditional_probabilities(
    distances: FloatArray, first_row: int, found: Calibration, out: FloatArray
) -> None:
    """Write p_{j|i} = exp(-beta_i (d_ij - nearest_i) - log_normaliser_i) to out.

    0 where i = j or it is dropped.

    Parameters
    ----------
    distances : array of shape (r, N), float64
        Squared distances from points first_row, first_row + 1, ... to all points.
    first_row : int
    found : Calibration
        Of the rows.
    out : array of shape (r, N), float64 or float32
        Overwritten; may be `distances` itself.
    """
    _conditional(distances, first_row, *found.numbers(), out)


def kept_probabilities(
    distances: FloatArray, first_row: int, found: Calibration
) -> tuple[FloatArray, IntArray, IntArray]:
    """Return the p_{j|i} that are kept, as values, indices and row pointers of a CSR matrix.

    Each has the bits that `conditional_probabilities` gives it; parameters are the same.
    """
    indptr = np.concatenate([[0], np.cumsum(found.kept.astype(np.int64))])
    data, indices = np.empty(indptr[-1]), np.empty(indptr[-1], dtype=np.int32)
    _kept(distances, first_row, *found.numbers(), data, indices, indptr)
    return data, indices, indptr


def joint_probabilities(
    distances: FloatArray,
    distances_back: FloatArray,
    rows: slice,
    columns: slice,
    found: Calibration,
    out: FloatArray,
) -> None:
    """Write S_ij = p_{j|i} + p_{i|j}, S_ii = 0, to out: all that a gradient step needs of P.

    Parameters
    ----------
    distances, distances_back : arrays of shape (r, c), float64
        Squared distances d_ij and d_ji; the same array where distances are symmetric.
    rows, columns : slice
        Which points the tile's rows and columns are.
    found : Calibration
        Of all points.
    out : array of shape (r, c), float64 or float32
        Overwritten.
    """
    _joint(
        distances,
        distances_back,
        rows.start,
        columns.start,
        found.numbers(rows),
        found.numbers(columns),
        out,
    )


def append_joint(
    distances: FloatArray,
    distances_back: FloatArray,
    rows: slice,
    columns: slice,
    found: Calibration,
    column: IntArray,
    value: FloatArray,
    counts: IntArray,
) -> None:
    """Append the entries of a tile of S that are kept to those of its rows.

    Parameters
    ----------
    distances, distances_back, rows, columns, found
        As for `joint_probabilities`.
    column, value : arrays of shape (r, N) or longer, int32 and float64
        Each row's entries from its first place on; columns are numbered from the first point.
    counts : array of shape (r,), int64
        How many entries each row has; changed.
    """
    places, numbers = (rows.start, columns.start), (found.numbers(rows), found.numbers(columns))
    _append(distances, distances_back, *places, *numbers, column, value, counts)


@strict
def _conditional(distances, first_row, precision, nearest, log_normaliser, cutoff, out):  # type: ignore[no-untyped-def]
    for i in range(distances.shape[0]):
        for j in range(distances.shape[1]):
            excess = distances[i, j] - nearest[i]
            p = exp_nonpositive(-(precision[i] * excess) - log_normaliser[i])
            out[i, j] = p if distances[i, j] <= cutoff[i] else 0.0
        out[i, first_row + i] = 0.0


@strict
def _kept(  # type: ignore[no-untyped-def]
    distances, first_row, precision, nearest, log_normaliser, cutoff, data, indices, indptr
):
    n = distances.shape[1]
    near = np.empty(n + 1, np.int32)
    for i in range(distances.shape[0]):
        d, own = distances[i], first_row + i
        m = 0
        for j in range(own):  # without a branch: which are kept is hard to predict
            near[m] = j
            m += d[j] <= cutoff[i]
        for j in range(own + 1, n):
            near[m] = j
            m += d[j] <= cutoff[i]
        first = indptr[i]
        for k in range(m):
            data[first + k] = d[near[k]] - nearest[i]
            indices[first + k] = near[k]
        for k in range(first, first + m):
            data[k] = exp_nonpositive(-(precision[i] * data[k]) - log_normaliser[i])


@strict
def _joint(distances, back, first_row, first_column, of_rows, of_columns, out):  # type: ignore[no-untyped-def]
    beta_i, nearest_i, shift_i, cut_i = of_rows
    beta_j, nearest_j, shift_j, cut_j = of_columns
    for i in range(distances.shape[0]):
        b, m, s, c = beta_i[i], nearest_i[i], shift_i[i], cut_i[i]
        for j in range(distances.shape[1]):
            outgoing = exp_nonpositive(-(b * (distances[i, j] - m)) - s)
            incoming = exp_nonpositive(-(beta_j[j] * (back[i, j] - nearest_j[j])) - shift_j[j])
            outgoing = outgoing if distances[i, j] <= c else 0.0
            incoming = incoming if back[i, j] <= cut_j[j] else 0.0
            out[i, j] = outgoing + incoming
        own = first_row + i - first_column
        if 0 <= own < distances.shape[1]:
            out[i, own] = 0.0


@strict
def _append(  # type: ignore[no-untyped-def]
    distances,
    back,
    first_row,
    first_column,
    of_rows,
    of_columns,
    column,
    value,
    counts,
):
    beta_i, nearest_i, shift_i, cut_i = of_rows
    beta_j, nearest_j, shift_j, cut_j = of_columns
    near, kept = np.empty(distances.shape[1], np.int32), np.empty(distances.shape[1], np.uint8)
    outgoing, incoming = np.empty(near.size), np.empty(near.size)
    for i in range(distances.shape[0]):
        d, b, own = distances[i], back[i], first_row + i - first_column
        n = counts[i]
        m = _write_near(d, b, cut_i[i], cut_j, own, kept, near)
        # Gathered first: a loop of exponentials over neighbours in memory fills whole vectors.
        for k in range(m):
            j = near[k]
            column[i, n + k] = first_column + j
            goes = -(beta_i[i] * (d[j] - nearest_i[i])) - shift_i[i]
            comes = -(beta_j[j] * (b[j] - nearest_j[j])) - shift_j[j]
            outgoing[k] = goes if d[j] <= cut_i[i] else DROPPED
            incoming[k] = comes if b[j] <= cut_j[j] else DROPPED
        _add_exponentials(outgoing[:m], incoming[:m], value[i, n : n + m])
        counts[i] = n + m


@strict
def _write_near(d, back, cut_i, cut_j, own, kept, near):  # type: ignore[no-untyped-def]
    """Write which entries are kept, and return how many they are."""
    for j in range(d.size):
        kept[j] = (d[j] <= cut_i) | (back[j] <= cut_j[j])
    if 0 <= own < d.size:
        kept[own] = 0
    m = 0
    for j in range(d.size):  # without a branch: which are kept is hard to predict
        near[m] = j
        m += kept[j]
    return m


@strict
def _add_exponentials(a, b, out):  # type: ignore[no-untyped-def]
    for k in range(out.size):
        out[k] = exp_nonpositive(a[k]) + exp_nonpositive(b[k])

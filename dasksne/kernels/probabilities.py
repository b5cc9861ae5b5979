"""Conditional and joint probabilities of the data from squared distances."""

import numpy as np

from dasksne.kernels.calibration import Calibration
from dasksne.kernels.compiled import exp_nonpositive, strict
from dasksne.types import FloatArray, IntArray


def conditional_probabilities(
    distances: FloatArray, first_row: int, found: Calibration, out: FloatArray
) -> None:
    """Write p_{j|i} = exp(-beta_i d_ij - log_normaliser_i), 0 where i = j or it is dropped, to out.

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
    _conditional(distances, first_row, found.precision, found.log_normaliser, found.cutoff, out)


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
    _joint(distances, distances_back, rows.start, columns.start, *_of(found, rows, columns), out)


def joint_entries(
    distances: FloatArray,
    distances_back: FloatArray,
    rows: slice,
    columns: slice,
    found: Calibration,
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return rows, columns and values of the entries of a tile of S that are kept, row by row.

    Rows are numbered from the tile's first, columns from the first point; as `joint_probabilities`.
    """
    size = distances.size
    row, column = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int32)
    value = np.empty(size)
    parameters = _of(found, rows, columns)
    n = _entries(
        distances, distances_back, rows.start, columns.start, *parameters, row, column, value
    )
    return row[:n].copy(), column[:n].copy(), value[:n].copy()


def _of(found: Calibration, rows: slice, columns: slice) -> tuple[FloatArray, ...]:
    """Return precision, shift and cutoff of the rows, then of the columns."""
    kept = (found.precision, found.log_normaliser, found.cutoff)
    return (*(values[rows] for values in kept), *(values[columns] for values in kept))


@strict
def _conditional(distances, first_row, precision, log_normaliser, cutoff, out):  # type: ignore[no-untyped-def]
    for i in range(distances.shape[0]):
        for j in range(distances.shape[1]):
            p = exp_nonpositive(-(precision[i] * distances[i, j]) - log_normaliser[i])
            out[i, j] = p if distances[i, j] <= cutoff[i] else 0.0
        out[i, first_row + i] = 0.0


@strict
def _joint(  # type: ignore[no-untyped-def]
    distances, back, first_row, first_column, beta_i, shift_i, cut_i, beta_j, shift_j, cut_j, out
):
    for i in range(distances.shape[0]):
        b, s, c = beta_i[i], shift_i[i], cut_i[i]
        for j in range(distances.shape[1]):
            outgoing = exp_nonpositive(-(b * distances[i, j]) - s)
            incoming = exp_nonpositive(-(beta_j[j] * back[i, j]) - shift_j[j])
            outgoing = outgoing if distances[i, j] <= c else 0.0
            incoming = incoming if back[i, j] <= cut_j[j] else 0.0
            out[i, j] = outgoing + incoming
        own = first_row + i - first_column
        if 0 <= own < distances.shape[1]:
            out[i, own] = 0.0


@strict
def _entries(  # type: ignore[no-untyped-def]
    distances,
    back,
    first_row,
    first_column,
    beta_i,
    shift_i,
    cut_i,
    beta_j,
    shift_j,
    cut_j,
    row,
    column,
    value,
):
    n = 0
    for i in range(distances.shape[0]):
        for j in range(distances.shape[1]):
            goes, comes = distances[i, j] <= cut_i[i], back[i, j] <= cut_j[j]
            if (goes | comes) and first_row + i != first_column + j:
                outgoing = exp_nonpositive(-(beta_i[i] * distances[i, j]) - shift_i[i])
                incoming = exp_nonpositive(-(beta_j[j] * back[i, j]) - shift_j[j])
                row[n] = i
                column[n] = first_column + j
                value[n] = (outgoing if goes else 0.0) + (incoming if comes else 0.0)
                n += 1
    return n

"""Conditional and joint probabilities of the data from squared distances."""

from dasksne.kernels.compiled import exp_nonpositive, strict
from dasksne.types import FloatArray


def conditional_probabilities(
    distances: FloatArray,
    first_row: int,
    precision: FloatArray,
    log_normaliser: FloatArray,
    out: FloatArray,
) -> None:
    """Write p_{j|i} = exp(-beta_i d_ij - log_normaliser_i), p_{i|i} = 0, to out.

    Parameters
    ----------
    distances : array of shape (r, N), float64
        Squared distances from points first_row, first_row + 1, ... to all points.
    first_row : int
    precision, log_normaliser : arrays of shape (r,)
        Of the rows; see `calibration.Calibration`.
    out : array of shape (r, N), float64 or float32
        Overwritten.
    """
    _conditional(distances, first_row, precision, log_normaliser, out)


def joint_probabilities(
    distances: FloatArray,
    distances_back: FloatArray,
    rows: slice,
    columns: slice,
    precision: FloatArray,
    log_normaliser: FloatArray,
    out: FloatArray,
) -> None:
    """Write S_ij = p_{j|i} + p_{i|j}, S_ii = 0, to out: all that a gradient step needs of P.

    Parameters
    ----------
    distances, distances_back : arrays of shape (r, c), float64
        Squared distances d_ij and d_ji; the same array where distances are symmetric.
    rows, columns : slice
        Which points the tile's rows and columns are.
    precision, log_normaliser : arrays of shape (N,)
        Of all points.
    out : array of shape (r, c), float64 or float32
        Overwritten.
    """
    _joint(
        distances,
        distances_back,
        rows.start,
        columns.start,
        precision[rows],
        log_normaliser[rows],
        precision[columns],
        log_normaliser[columns],
        out,
    )


@strict
def _conditional(distances, first_row, precision, log_normaliser, out):  # type: ignore[no-untyped-def]
    for i in range(distances.shape[0]):
        beta, shift = precision[i], log_normaliser[i]
        for j in range(distances.shape[1]):
            out[i, j] = exp_nonpositive(-(beta * distances[i, j]) - shift)
        out[i, first_row + i] = 0.0


@strict
def _joint(distances, back, first_row, first_column, beta_i, shift_i, beta_j, shift_j, out):  # type: ignore[no-untyped-def]
    for i in range(distances.shape[0]):
        b, s = beta_i[i], shift_i[i]
        for j in range(distances.shape[1]):
            outgoing = exp_nonpositive(-(b * distances[i, j]) - s)
            incoming = exp_nonpositive(-(beta_j[j] * back[i, j]) - shift_j[j])
            out[i, j] = outgoing + incoming
        own = first_row + i - first_column
        if 0 <= own < distances.shape[1]:
            out[i, own] = 0.0

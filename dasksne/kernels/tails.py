"""What rows of P that dropped their tails take from other points: the terms of a bound."""

import numpy as np

from dasksne.kernels.calibration import Calibration
from dasksne.kernels.compiled import exp_nonpositive, strict, summation
from dasksne.types import FloatArray


def add_column_masses(
    distances_back: FloatArray,
    rows: slice,
    columns: slice,
    whole: Calibration,
    cut: Calibration,
    weighted: FloatArray,
    lost: FloatArray,
) -> None:
    """Add a tile's share of what other rows dropped to a_i and b_i, which bound the error.

    Parameters
    ----------
    distances_back : array of shape (r, c), float64
        d_ji.
    rows, columns : slice
        Which points the tile's rows and columns are.
    whole, cut : Calibration
        Of all points, before and after truncation.
    weighted : array of shape (r,)
        a_i = sum_j p_{i|j} m_j is added, m_j the mass that row j dropped.
    lost : array of shape (r,)
        b_i = the sum of the p_{i|j} that were dropped is added.
    """
    _add_column_masses(
        distances_back,
        rows.start - columns.start,
        whole.precision[columns],
        whole.log_normaliser[columns],
        cut.cutoff[columns],
        cut.dropped[columns],
        weighted,
        lost,
    )


@strict
def _add_column_masses(back, diagonal, beta, shift, cutoff, dropped, weighted, lost):  # type: ignore[no-untyped-def]
    p = np.empty(back.shape[1])
    for i in range(back.shape[0]):
        for j in range(p.size):
            p[j] = exp_nonpositive(-(beta[j] * back[i, j]) - shift[j])
        if 0 <= diagonal + i < p.size:
            p[diagonal + i] = 0.0
        a, b = _masses(p, back[i], cutoff, dropped)
        weighted[i] += a
        lost[i] += b


@summation
def _masses(p, back, cutoff, dropped):  # type: ignore[no-untyped-def]
    a = 0.0
    b = 0.0
    for j in range(p.size):
        a += p[j] * dropped[j]
        b += 0.0 if back[j] <= cutoff[j] else p[j]
    return a, b

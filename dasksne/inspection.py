"""A look at the data before any work is done on it: what is wrong is named, with its row."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from dasksne.kernels.distances import directions
from dasksne.source import Rows
from dasksne.types import FloatArray, IntArray

GIVEN = {"precomputed": "precomputed distances", "affinities": "affinities"}
"""What X holds for pairs of points, by metric."""


class Inspection(NamedTuple):
    """What one chunk of X is like."""

    n_rows: int
    n_bad: int
    """Rows with NaN or infinity."""
    first_bad: int
    """The first of them; -1 if there is none."""
    complaint: str | None
    """Why the rows are no distances or affinities, or have no direction, where they should."""
    largest: float
    """Largest absolute finite value, of what distances are measured between."""
    mean: FloatArray
    """Of each feature of the same."""
    digest: str
    """SHA-256 of the values."""


def inspect(rows: slice, x: Rows, metric: str) -> Inspection:
    """Look at one chunk of X before any work is done on it."""
    values = x.read(rows)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    complaint = None
    if metric in GIVEN:
        complaint = _complaint(rows, values, GIVEN[metric])
        if complaint is None and metric == "affinities":
            complaint = _complaint_of_rows(rows.start, values.any(axis=1))
    elif metric == "cosine":
        complaint = complaint_of_direction(rows.start, values)
        values = directions(values)
    finite = np.isfinite(values)
    return Inspection(
        n_rows=len(values),
        n_bad=bad.size,
        first_bad=rows.start + int(bad[0]) if bad.size else -1,
        complaint=complaint,
        largest=float(np.max(np.abs(values), where=finite, initial=0.0)),
        # Divided first: a sum of values near the largest float would overflow.
        mean=np.sum(values / len(values), axis=0, where=finite),
        digest=digest,
    )


def inspect_sparse(x: csr_array) -> Inspection:
    """Look at sparse affinities, all at once; no entry is an explicit zero."""
    bad = np.flatnonzero(np.isin(np.arange(x.shape[0]), _rows_of(x)[~np.isfinite(x.data)]))
    digest = hashlib.sha256()
    for part in (x.indptr.astype(np.int64), x.indices.astype(np.int64), x.data):
        digest.update(part.tobytes())
    finite = x.data[np.isfinite(x.data)]
    return Inspection(
        n_rows=x.shape[0],
        n_bad=bad.size,
        first_bad=int(bad[0]) if bad.size else -1,
        complaint=_complaint_of_graph(x),
        largest=float(np.max(np.abs(finite), initial=0.0)),
        mean=np.zeros(0),
        digest=digest.hexdigest(),
    )


def _rows_of(x: csr_array) -> IntArray:
    """Return the row of each entry."""
    return np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))


def _complaint_of_graph(x: csr_array) -> str | None:
    """Say what keeps a sparse matrix from being affinities."""
    negative = np.flatnonzero(x.data < 0.0)
    if negative.size:
        k = negative[0]
        return _negative(GIVEN["affinities"], _rows_of(x)[k], x.indices[k], x.data[k])
    complaint = _complaint_of_diagonal(0, x.diagonal(), GIVEN["affinities"])
    return complaint or _complaint_of_rows(0, np.diff(x.indptr) > 0)


def _complaint(rows: slice, values: FloatArray, what: str) -> str | None:
    """Say what keeps some rows of a matrix from being distances, or so, between its points."""
    complaint = complaint_of_sign(rows.start, values, what)
    own = np.arange(rows.start, rows.stop)
    return complaint or _complaint_of_diagonal(rows.start, values[own - rows.start, own], what)


def _complaint_of_diagonal(first_row: int, diagonal: FloatArray, what: str) -> str | None:
    if not np.any(diagonal != 0.0):
        return None
    i = int(np.argmax(diagonal != 0.0))
    own = first_row + i
    return f"{what} of points to themselves must be zero: X[{own}, {own}] = {diagonal[i]:g}"


def _complaint_of_rows(first_row: int, there: Any) -> str | None:
    """Say which of some rows of affinities has none, from a boolean for each."""
    if np.all(there):
        return None
    return (
        f"X is zero in row {first_row + int(np.argmin(there))}: a point without affinities to "
        "others has no place in a map; remove such points"
    )


def complaint_of_sign(
    first_row: int, values: FloatArray, what: str = "precomputed distances"
) -> str | None:
    """Say which of some rows of a matrix is negative, as no distance and no affinity is."""
    if not np.any(values < 0.0):
        return None
    i, j = np.argwhere(values < 0.0)[0]
    return _negative(what, first_row + i, j, values[i, j])


def _negative(what: str, i: int, j: int, value: float) -> str:
    return f"{what} must not be negative: X[{i}, {j}] = {value:g}"


def complaint_of_direction(first_row: int, values: FloatArray) -> str | None:
    """Say which of some rows of a matrix is zero, and so has no direction."""
    zero = np.flatnonzero(~values.any(axis=1))
    if not zero.size:
        return None
    return (
        f'X is zero in row {first_row + zero[0]}, which has no direction for metric="cosine"; '
        "remove such rows"
    )

"""X, looked at and brought to where every task can read it, before any other work."""

import hashlib
import math
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import dask.array as da
import numpy as np
import numpy.typing as npt

from dasksne.errors import InvalidInputError
from dasksne.executor import Executor
from dasksne.run import Run
from dasksne.source import (
    TILE_COLUMNS,
    ArrayRows,
    Features,
    Inspection,
    Precomputed,
    Rows,
    Source,
    StoredRows,
    inspect,
    row_chunks,
)
from dasksne.types import FloatArray

LARGEST_PLAIN_EXPONENT = 300
"""Data within 2**-300 to 2**300 is used as it is: its squares are ordinary numbers."""

Data: TypeAlias = npt.NDArray[Any] | da.Array


class Look(NamedTuple):
    """What a look at all of X found."""

    exponent: int
    """Of the power of two to divide X by."""
    mean: FloatArray
    """Of each feature, so divided."""
    fingerprint: str
    """SHA-256 of shape and values."""

    def source(self, rows: Rows, metric: str) -> Source:
        """Return the distances between the rows that were looked at."""
        kind = Precomputed if metric == "precomputed" else Features
        return kind(rows, self.exponent)


def look_at_array(x: npt.NDArray[Any], metric: str) -> Look:
    """Look at an array of this process; see `look_at_stored`."""
    rows = ArrayRows(x)
    chunks = row_chunks(*rows.shape)
    return _look((inspect(chunk, rows, metric) for chunk in chunks), rows.shape)


def look_at_stored(executor: Executor, rows: StoredRows, metric: str) -> Look:
    """Look at all of a stored X.

    Raises
    ------
    InvalidInputError
        X holds NaN or infinity, or is not a matrix of distances where it should be.
    """
    parts = executor.map(inspect, row_chunks(*rows.shape), rows, metric)
    return _look((executor.result(part) for part in parts), rows.shape)


def store_rows(x: Data, run: Run, metric: str, *, by_workers: bool = True) -> StoredRows:
    """Copy X to the run chunk by chunk; each block of a Dask array is computed once.

    Where workers do not reach the run, this process writes what they compute.
    """
    chunks = row_chunks(*x.shape)
    height = chunks[0].stop
    width = TILE_COLUMNS if metric == "precomputed" else x.shape[1]
    run.create_array("X", x.shape, (height, width), x.dtype)
    if isinstance(x, da.Array) and by_workers:
        da.store(x.rechunk((height, -1)), run.array("X", "r+"), lock=False)  # type: ignore[arg-type]
    else:
        for rows in chunks:
            run.write("X", rows, np.asarray(x[rows]))
    return stored_rows(run)


def stored_rows(run: Run) -> StoredRows:
    """Return X of a run as picklable rows."""
    n_points, n_features = run.array("X").shape
    return StoredRows(run.url, "X", run.storage_options, (n_points, n_features), run.state["id"])


def stored_source(run: Run) -> Source:
    """Return the distances of a run's data, as its attributes describe it."""
    state = run.state
    kind = Precomputed if state["parameters"]["metric"] == "precomputed" else Features
    return kind(stored_rows(run), state["exponent"])


def _look(inspections: Iterable[Inspection], shape: tuple[int, int]) -> Look:
    found = list(inspections)
    n_bad = sum(part.n_bad for part in found)
    if n_bad:
        first = next(part.first_bad for part in found if part.n_bad)
        raise InvalidInputError(
            f"X holds NaN or infinity in {n_bad} of its {shape[0]} rows, first in row {first}; "
            "remove or fill them"
        )
    complaint = next((part.complaint for part in found if part.complaint), None)
    if complaint is not None:
        raise InvalidInputError(complaint)
    largest = max(part.largest for part in found)
    exponent = math.frexp(largest)[1] if largest > 0.0 else 0
    if abs(exponent) <= LARGEST_PLAIN_EXPONENT:
        exponent = 0
    total = np.sum([np.ldexp(part.mean, -exponent) * part.n_rows for part in found], axis=0)
    digests = "".join([str(shape), *(part.digest for part in found)])
    return Look(exponent, total / shape[0], hashlib.sha256(digests.encode()).hexdigest())

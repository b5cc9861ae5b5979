"""Data and its map side by side: distances from the same rows in both spaces, block by block."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from sklearn.utils import check_array

from dasksne.errors import InvalidInputError
from dasksne.executor import Executor, Handle, current_executor
from dasksne.run import Run
from dasksne.settings import require_metric
from dasksne.slices import consecutive
from dasksne.source import ArrayRows, Features, Source
from dasksne.staging import (
    as_collection,
    look_at,
    look_at_array,
    reachable_rows,
    require_numbers,
    require_seen,
    stored_source,
)
from dasksne.types import FloatArray

TASKS_PER_THREAD = 8
PANEL_BYTES = 64 << 20
"""Of distances, that a task holds at once in each space, unless four rows are more."""
MOST_PANEL_ROWS = 64
"""Each reads all of X: so many rows at once make that cheap."""


class Pair(NamedTuple):
    """A data set and its map, where tasks find them."""

    executor: Executor
    source: Source
    y: Handle
    """The map, an argument of tasks."""
    n: int

    def results(self, task: Callable[..., Any], *options: Any) -> Iterator[Any]:
        """Yield task(rows, source, y, *options) for slices of all rows, in order."""
        step = -(-self.n // (TASKS_PER_THREAD * self.executor.n_threads))
        rows = consecutive(slice(0, self.n), step)
        handles = self.executor.map(task, rows, self.source, self.y, *options)
        while handles:  # a result that was used is let go
            yield self.executor.result(handles.pop(0))


@contextmanager
def compared(X: Any, Y: Any, metric: str, *, rescale: bool = True) -> Iterator[Pair]:
    """Check X and Y, and bring them to where tasks find them.

    With rescale=True the map is divided by a power of two where its squares would overflow or
    vanish, as the data is.
    """
    require_metric(metric)
    X = as_collection(X)
    if not isinstance(X, da.Array):
        X = check_array(
            X,
            accept_sparse="csr",
            ensure_all_finite=False,
            ensure_min_samples=2,
            input_name="X",
        )
    X = require_numbers(X, metric)
    Y = check_array(np.asarray(Y), dtype=np.float64, ensure_min_samples=2, input_name="Y")
    if X.shape[0] != len(Y):
        raise InvalidInputError(
            f"X has {X.shape[0]} points and Y {len(Y)}; each point needs its place in the map"
        )
    executor = current_executor()
    with reachable_rows(executor, X, metric) as rows:
        source = look_at(executor, rows, metric).source(rows, metric)
        yield Pair(executor, source, _shared(executor, Y, rescale), len(Y))


@contextmanager
def pair_of_run(run: Run, y: FloatArray, *, rescale: bool = True) -> Iterator[Pair]:
    """Bring a map to where tasks find it; the data is in the run. As `compared`."""
    executor = current_executor()
    require_seen(executor, run)
    with executor:
        yield Pair(executor, stored_source(run), _shared(executor, y, rescale), len(y))


def _shared(executor: Executor, y: FloatArray, rescale: bool) -> Handle:
    """Broadcast a map: scaled, where only the order of distances matters, as the data is."""
    if rescale:
        y = np.ldexp(y, -look_at_array(y, "euclidean").exponent)
    return executor.broadcast(y)


def panels(
    rows: slice, source: Source, y: FloatArray
) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
    """Yield some rows after others with their distances in the data and in the map."""
    n = source.n_points
    step = min(MOST_PANEL_ROWS, max(4, PANEL_BYTES // (8 * n)), rows.stop - rows.start)
    embedded = Features(ArrayRows(y))
    buffers = np.empty((2, step, n))
    for panel in consecutive(rows, step):
        a, b = buffers[:, : panel.stop - panel.start]
        yield panel, source.panel(panel, a), embedded.panel(panel, b)

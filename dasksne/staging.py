"""X, looked at and brought to where every task can read it, before any other work."""

import hashlib
import itertools
import math
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import zarr
from scipy.sparse import csr_array, issparse

from dasksne.errors import InvalidInputError, StoreError
from dasksne.executor import Executor
from dasksne.given import source_of
from dasksne.inspection import GIVEN, Inspection, inspect, inspect_sparse
from dasksne.lazy import from_zarr
from dasksne.run import Run
from dasksne.settings import PAIRWISE
from dasksne.source import (
    KEPT_BYTES,
    TILE_COLUMNS,
    ArrayRows,
    Rows,
    Source,
    StoredRows,
    dense,
    row_chunks,
)
from dasksne.sparse import SPARSE, read_sparse, sparse_matrix, write_sparse
from dasksne.types import FloatArray

LARGEST_PLAIN_EXPONENT = 300
"""Data within 2**-300 to 2**300 is used as it is: its squares are ordinary numbers."""

Data: TypeAlias = npt.NDArray[Any] | csr_array | da.Array
"""X: what is not a Dask array is in this process's memory."""


def is_graph(x: Data, metric: str) -> bool:
    """Say whether X is sparse affinities: few pairs of points have any."""
    return metric == "affinities" and issparse(x)


class Look(NamedTuple):
    """What a look at all of X found."""

    exponent: int
    """Of the power of two to divide X by; of affinities, the least that none exceeds."""
    mean: FloatArray
    """Of each feature, so divided."""
    fingerprint: str
    """SHA-256 of shape and values."""
    counts: FloatArray | None = None
    """How often each point counts, where not once each; the mean is then to be that of copies."""

    def source(self, rows: Rows, metric: str) -> Source:
        """Return the distances between the rows that were looked at."""
        return source_of(rows, self.exponent, metric, self.counts)


def as_collection(x: Any, fewest: int = 2) -> Any:
    """Return a Zarr array, Dask array or data frame as a Dask array, anything else as it is.

    Nothing is computed but the lengths of a data frame's partitions.

    Raises
    ------
    InvalidInputError
        A Dask array is no matrix, of unknown size, or not of dense blocks; or values are masked.
    """
    if isinstance(x, zarr.Array):
        x = from_zarr(x)
    if hasattr(x, "to_dask_array"):
        x = x.to_dask_array(lengths=True)
    if isinstance(x, da.Array):
        _require_dask_is_usable(x, fewest)
    if isinstance(getattr(x, "_meta", x), np.ma.MaskedArray):
        raise InvalidInputError(
            "X is a masked array, and there is no distance to what is masked; leave such rows out, "
            "or fill them: X.filled(value), of a Dask array dask.array.ma.filled(X, value)"
        )
    return x


def require_numbers(x: Data, metric: str) -> Data:
    """Return X of real numbers, no wider than float64, square if the metric is of pairs.

    Sparse affinities become a matrix of their own, of float64 and without zeros.

    Raises
    ------
    InvalidInputError
        It is not.
    """
    if x.dtype.kind not in "biuf":
        raise InvalidInputError(f"X has dtype {x.dtype}; it must be real numbers")
    if metric == "precomputed" and issparse(x):
        raise InvalidInputError("X is sparse; precomputed distances are given dense, all of them")
    if metric in PAIRWISE and x.shape[0] != x.shape[1]:
        what = GIVEN[metric]
        raise InvalidInputError(f"X has shape {x.shape}; {what} are a square matrix")
    if is_graph(x, metric):
        graph = cast("csr_array", x).astype(np.float64, copy=True)
        graph.sum_duplicates()
        graph.eliminate_zeros()
        return graph
    if x.dtype.kind == "f" and x.dtype.itemsize > np.dtype(np.float64).itemsize:
        return x.astype(np.float64)  # Zarr has no wider numbers, and nothing here uses them
    return x


def _require_dask_is_usable(x: da.Array, fewest: int) -> None:
    if x.ndim != 2:
        raise InvalidInputError(f"X has {x.ndim} dimensions; it must have two, (N, D)")
    if any(np.isnan(size) for size in x.shape):
        raise InvalidInputError("X has chunks of unknown size; call X.compute_chunk_sizes() first")
    if not isinstance(x._meta, np.ndarray):  # noqa: SLF001 - what Dask keeps its kind of blocks in
        raise InvalidInputError(
            f"X is made of blocks of {type(x._meta).__name__}; they must be dense NumPy arrays: "  # noqa: SLF001
            "X.map_blocks(lambda block: block.toarray()) makes them so"
        )
    if x.shape[0] < fewest or x.shape[1] < 1:
        rows = "one row" if fewest == 1 else "two rows"
        raise InvalidInputError(
            f"X has shape {x.shape}; at least {rows} and one feature are needed"
        )


def look_at_array(x: npt.NDArray[Any] | csr_array, metric: str) -> Look:
    """Look at an array of this process; see `look_at_stored`."""
    rows = ArrayRows(x)
    if is_graph(x, metric):
        return _look([inspect_sparse(cast("csr_array", x))], rows.shape, metric)
    chunks = row_chunks(*rows.shape)
    return _look((inspect(chunk, rows, metric) for chunk in chunks), rows.shape, metric)


def look_at_stored(executor: Executor, rows: StoredRows, metric: str) -> Look:
    """Look at all of a stored X.

    Raises
    ------
    InvalidInputError
        X holds NaN or infinity, or is not a matrix of distances or affinities, or holds a row of
        zeros, where the metric forbids it.
    """
    parts = executor.map(inspect, row_chunks(*rows.shape), rows, metric)
    return _look((executor.result(part) for part in parts), rows.shape, metric)


def store_rows(
    executor: Executor,
    x: Data,
    run: Run,
    metric: str,
    *,
    name: str = "X",
    by_workers: bool = True,
) -> Rows:
    """Copy X to the run; each block of a Dask array is computed once.

    Where workers do not reach the run, this process writes what they compute. Sparse affinities
    stay as they are, and are read from memory.
    """
    if is_graph(x, metric):
        graph = cast("csr_array", x)
        write_sparse(run, "X", 0, graph.data, graph.indices, graph.indptr)
        return ArrayRows(graph)
    chunks = row_chunks(*x.shape)
    height = chunks[0].stop
    width = TILE_COLUMNS if metric in PAIRWISE else x.shape[1]
    run.create_array(name, x.shape, (height, width), x.dtype)
    if isinstance(x, da.Array) and by_workers:
        stored = x.rechunk((height, -1)).map_blocks(
            _store_block,
            run=run,
            run_id=run.state.get("id"),
            array=name,
            # A name of its own: no result of an earlier run, or failure, stands for it.
            name=f"store_block-{uuid.uuid4().hex}",
            chunks=((1,) * len(chunks), (1,)),
            dtype=bool,
            meta=np.empty((0, 0), dtype=bool),
        )
        executor.compute(stored)
    elif isinstance(x, da.Array):
        blocks = x.rechunk({1: -1})
        ends = np.cumsum(blocks.chunks[0]).tolist()
        for k, (start, stop) in enumerate(itertools.pairwise([0, *ends])):
            run.write(name, slice(start, stop), executor.compute(blocks.blocks[k]))
    else:
        for rows in chunks:
            run.write(name, rows, dense(x[rows]))
    return stored_rows(run, name)


def _store_block(
    block: npt.NDArray[Any], run: Run, run_id: str | None, array: str, block_info: Any
) -> npt.NDArray[np.bool_]:
    run.require_same(run_id)
    run.write(array, slice(*block_info[0]["array-location"][0]), block)
    return np.ones((1, 1), dtype=bool)


def readable_rows(run: Run, name: str, *, blind: bool) -> Rows:
    """Return a matrix of a run as rows that every task reads: from memory, if some are blind."""
    return ArrayRows(run.read(name)) if blind else stored_rows(run, name)


@contextmanager
def reachable_rows(executor: Executor, x: Data, metric: str) -> Iterator[Rows]:
    """Have an executor at work, and give X as rows that every task reads.

    An array is read from memory, if tasks see it, and else a copy, which is removed when no task
    reads it any more.
    """
    if not isinstance(x, da.Array) and executor.shares_memory:
        with executor:
            yield ArrayRows(x)
        return
    with scratch_run() as run:
        require_seen(executor, run)
        with executor:
            yield store_rows(executor, x, run, metric)


def look_at(executor: Executor, rows: Rows, metric: str) -> Look:
    """Look at rows that every task reads; see `look_at_stored`."""
    if isinstance(rows, StoredRows):
        return look_at_stored(executor, rows, metric)
    assert isinstance(rows, ArrayRows)  # noqa: S101 - there is nothing else
    return look_at_array(rows.array, metric)


@contextmanager
def scratch_run() -> Iterator[Run]:
    """Make a run that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="dasksne-", dir=scratch_folder()) as folder:
        run = Run.locate(Path(folder) / "run.zarr")
        run.create(overwrite=False)
        run.update(id=uuid.uuid4().hex)
        yield run


def scratch_folder() -> str:
    """Return where Dask, too, puts what is removed at the end."""
    return dask.config.get("temporary-directory", None) or tempfile.gettempdir()


def require_seen(executor: Executor, run: Run | None) -> None:
    """Raise StoreError where tasks cannot reach a run."""
    if run is None:
        return
    blind = executor.blind_workers(run.url, dict(run.storage_options))
    if blind:
        raise StoreError(
            f"{len(blind)} workers do not see {run.url}, the first of them {blind[0]}; give "
            "store= (or Dask's temporary-directory, where there is no store) a folder or URL that "
            "all of them and this process reach"
        )


def is_stored_sparse(run: Run) -> bool:
    """Say whether X of a run is sparse affinities."""
    return run.has("X/0")


def stored_bytes(run: Run) -> int:
    """Return what X of a run takes in memory."""
    names = [f"X/0/{part}" for part in SPARSE] if is_stored_sparse(run) else ["X"]
    return sum(run.array(name).nbytes for name in names)


def stored_x(run: Run) -> Rows:
    """Return X of a run as picklable rows; a sparse one comes into memory."""
    if not is_stored_sparse(run):
        return stored_rows(run)
    parts = read_sparse(run, "X", 0)
    n = parts[-1].size - 1
    return ArrayRows(sparse_matrix(parts, (n, n), f"X of {run.url}"))


def x_in_memory(run: Run) -> Any:
    """Return X of a run in memory, sparse where it is."""
    rows = stored_x(run)
    return rows.array if isinstance(rows, ArrayRows) else run.read("X")


def stored_rows(run: Run, name: str = "X") -> StoredRows:
    """Return X, or another matrix of a run, as picklable rows."""
    state = run.state
    n_rows, n_columns = run.array(name).shape
    kept_rows = KEPT_BYTES // (8 * n_columns)
    if name == "X" and "plan" in state:
        kept_rows = state["plan"]["kept_rows"]
    shape = (n_rows, n_columns)
    return StoredRows(run.url, name, run.storage_options, shape, state["id"], kept_rows)


def stored_source(run: Run) -> Source:
    """Return the distances of a run's data, as its attributes describe it."""
    state = run.state
    counts = run.read_whole("sample_weight") if run.has("sample_weight") else None
    return source_of(stored_x(run), state["exponent"], state["parameters"]["metric"], counts)


def _look(inspections: Iterable[Inspection], shape: tuple[int, int], metric: str) -> Look:
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
    if abs(exponent) <= LARGEST_PLAIN_EXPONENT and metric != "affinities":
        exponent = 0
    total = np.sum([np.ldexp(part.mean, -exponent) * part.n_rows for part in found], axis=0)
    digests = "".join([str(shape), *(part.digest for part in found)])
    return Look(exponent, total / shape[0], hashlib.sha256(digests.encode()).hexdigest())

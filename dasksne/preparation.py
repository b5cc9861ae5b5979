"""Features scaled, or turned into principal components, before anything else is done with them.

The run keeps what was prepared as its X, and beside it what prepared it, for new points.
"""

from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.delayed import delayed

from dasksne.components import OVERSAMPLING, principal_components, weighted_mean
from dasksne.executor import Executor
from dasksne.kernels.components import is_constant, scores, squared_deviations
from dasksne.run import Run
from dasksne.settings import Settings
from dasksne.source import ArrayRows, Features, Rows, StoredRows, row_chunks
from dasksne.staging import Data, Look, look_at, readable_rows, store_rows
from dasksne.types import FloatArray

LARGEST_COVARIANCE = 2048
"""Features up to which one pass over X finds the whole matrix, 32 MiB, and all its components."""
TOLERANCE = 1e-12
"""Of components found by iteration, of more features."""
RAW = "raw"
"""X as it was given, in a run whose X is not prepared yet."""
GROUP = "preparation"
"""Of the run, which holds the fields by their names."""


class Preparation(NamedTuple):
    """What makes prepared rows of raw ones: ((x - mean) / scale) components."""

    mean: FloatArray
    """Shape (D,), in the units of X."""
    scale: FloatArray
    """Shape (D,), in the units of X: standard deviations, or ones."""
    components: FloatArray | None = None
    """Shape (D, K), orthonormal columns; None where all features stay."""

    def rows(self, x_rows: npt.NDArray[Any]) -> FloatArray:
        """Return prepared rows as float64; a row's bits do not depend on the rows beside it."""
        # What overflows is found as infinity in the data is.
        with np.errstate(over="ignore", invalid="ignore"):
            standard: FloatArray = (np.asarray(x_rows, dtype=np.float64) - self.mean) / self.scale
            return standard if self.components is None else scores(standard, self.components)

    def keep(self, run: Run) -> None:
        """Write all fields to a run."""
        for name, values in self._asdict().items():
            if values is not None:
                run.create_array(f"{GROUP}/{name}", values.shape, values.shape)
                run.write(f"{GROUP}/{name}", slice(None), values)


def kept_preparation(run: Run) -> Preparation | None:
    """Return what prepared the data of a run; None where that is as it was given.

    Raises
    ------
    StoreError
        It is damaged.
    """
    if not run.has(GROUP):
        return None
    # Not by the group's members: Zarr takes some that are damaged for none.
    kept = [name for name in Preparation._fields if run.has(f"{GROUP}/{name}")]
    return Preparation(**{name: run.read_whole(f"{GROUP}/{name}") for name in kept})


def prepare(
    executor: Executor,
    x: Data,
    look: Look | None,
    settings: Settings,
    run: Run | None,
    *,
    in_memory: bool,
    blind: bool,
) -> tuple[Data, Preparation]:
    """Return prepared data, lazy where raw rows are read from the run, and what prepared it.

    Parameters
    ----------
    executor : Executor
        Entered.
    x : numpy.ndarray, csr_array or dask.array.Array of shape (N, D)
    look : Look or None
        At all of x, as features, where that was taken already.
    settings : Settings
    run : Run or None
        Keeps the raw rows, until the caller removes them, where tasks do not see this process's
        memory or x is lazy.
    in_memory : bool
        Whether x stays in this process's memory.
    blind : bool
        Whether some worker does not see the run.
    """
    rows: Rows = ArrayRows(x)
    if not in_memory:
        assert run is not None  # noqa: S101 - made for what is not in memory
        store_rows(executor, x, run, "euclidean", name=RAW, by_workers=not blind)
        rows = readable_rows(run, RAW, blind=blind)
    look = look or look_at(executor, rows, "euclidean")
    source = Features(rows, look.exponent, settings.sample_weight)
    if blind or source.counts is not None:
        executor.hold(source)
    preparation = _find(executor, source, look, settings)
    if isinstance(x, da.Array) and isinstance(rows, StoredRows):
        return _prepared_later(rows, preparation, settings), preparation
    chunks = row_chunks(*rows.shape)
    parts = executor.map(_prepared_rows, chunks, source, executor.broadcast(preparation))
    return np.concatenate([executor.result(part) for part in parts]), preparation


def _find(executor: Executor, source: Features, look: Look, settings: Settings) -> Preparation:
    """Return what prepares the data as the settings ask for."""
    n_points, n_features = source.x.shape
    mean, scale, unit = look.mean, np.ones(n_features), 0
    if source.counts is not None:
        mean = weighted_mean(executor, source)
    if settings.scale:
        chunks = row_chunks(n_points, n_features)
        shares = executor.map(_squared_deviations, chunks, source, executor.broadcast(mean))
        total = np.sum([executor.result(share) for share in shares], axis=0)
        variance = total / settings.n_counted(n_points)
        # A constant feature has no scale of its own, and becomes zero without rounding.
        constant = is_constant(mean, variance, n_points)
        scale = np.where(constant, scale, np.sqrt(variance))
        mean = np.where(constant, source.read(slice(0, 1))[0], mean)
        unit = look.exponent
    components = None
    if settings.pca is not None:
        whole = n_features <= LARGEST_COVARIANCE
        components = principal_components(
            executor,
            source,
            mean,
            scale,
            settings.pca,
            width=n_features if whole else min(n_features, settings.pca + OVERSAMPLING),
            tolerance=TOLERANCE,
        )
    return Preparation(np.ldexp(mean, look.exponent), np.ldexp(scale, unit), components)


def _prepared_later(rows: StoredRows, preparation: Preparation, settings: Settings) -> da.Array:
    heights = tuple(chunk.stop - chunk.start for chunk in row_chunks(*rows.shape))
    lazy: da.Array = da.map_blocks(
        _prepared_block,
        # One key of the graph, and not a copy in every task.
        delayed(preparation, pure=True, traverse=False),
        rows=rows,
        chunks=(heights, (settings.n_mapped(rows.shape[1]),)),
        dtype=np.float64,
        meta=np.empty((0, 0)),
    )
    return lazy


def _squared_deviations(rows: slice, source: Features, mean: FloatArray) -> FloatArray:
    counts = None if source.counts is None else source.counts[rows]
    return squared_deviations(source.read(rows), mean, counts)


def _prepared_rows(rows: slice, source: Features, preparation: Preparation) -> FloatArray:
    return preparation.rows(source.x.read(rows))


def _prepared_block(
    preparation: Preparation, rows: StoredRows, block_info: Any = None
) -> FloatArray:
    start, stop = block_info[None]["array-location"][0]
    return preparation.rows(rows.read(slice(start, stop)))

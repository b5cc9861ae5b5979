"""New points on a map that stays as it is: each is placed on its own, whatever comes with it."""

import sys
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.delayed import delayed
from scipy.sparse import csr_array

from dasksne.affinities import Width, width_of
from dasksne.errors import InvalidInputError
from dasksne.executor import Executor
from dasksne.given import GivenDistances, Precomputed
from dasksne.inspection import complaint_of_direction, complaint_of_sign
from dasksne.kernels.calibration import TIED
from dasksne.kernels.placement import place, weighted_means
from dasksne.plan import Plan
from dasksne.preparation import Preparation
from dasksne.run import Run
from dasksne.settings import Settings
from dasksne.slices import consecutive
from dasksne.source import (
    Directions,
    Features,
    Reference,
    Rows,
    Source,
    StoredRows,
    dense,
    row_chunks,
)
from dasksne.types import FloatArray, IntArray

LARGEST = np.finfo(np.float64).max


@dataclass(frozen=True)
class FittedMap:
    """A map and what it was made from: all that new points need.

    Picklable, and without data where a run keeps both.
    """

    points: Reference | None
    """None where affinities were given: new points have none."""
    embedding: Rows
    width: Width
    preparation: Preparation | None
    """Of the data that the map was made from."""
    block_rows: int
    """New points measured at once: as many as a row block of the fit has."""

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + sys.getsizeof(self.points) + sys.getsizeof(self.embedding)

    def require_open(self) -> None:
        """Raise InvalidInputError where nothing says what new points are to the fitted ones."""
        if self.points is None:
            raise InvalidInputError(
                "the map was made from affinities, and new points have none; it takes no new points"
            )
        if isinstance(self.width.precision, np.ndarray):
            raise InvalidInputError(
                "the map was made with a sigma for each of its points, and new points have none; "
                "fit it with one sigma for all, or with a perplexity"
            )

    def prepared(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return new rows as those of the fit were prepared."""
        return X if self.preparation is None else self.preparation.rows(X)

    def for_more_points(self, fitted: npt.NDArray[np.bool_]) -> "FittedMap":
        """Return the map for distances that come to more points than these, which are `fitted`."""
        if not isinstance(self.points, GivenDistances):
            return self
        return replace(self, points=replace(self.points, fitted=fitted))

    def require_kept(self) -> Run | None:
        """Return the run that keeps the map, if one does; raise StoreError if it is gone."""
        kept = self.embedding
        if not isinstance(kept, StoredRows):
            return None
        run = Run(kept.url, kept.storage_options)
        run.require()
        run.require_same(kept.version)
        return run


def fitted_map(
    source: Source,
    embedding: Rows,
    preparation: Preparation | None,
    settings: Settings,
    plan: Plan,
) -> FittedMap:
    """Return what new points need of a finished fit.

    Of precomputed distances nothing is needed: new ones come with the new points.
    """
    width = width_of(settings, settings.perplexity or np.nan, source.exponent)
    points: Reference | None = None
    if isinstance(source, Features):
        points = source
    elif isinstance(source, Precomputed):
        points = GivenDistances(source.exponent, source.counts)
    return FittedMap(
        points=points,
        embedding=embedding,
        width=replace(width, tail_mass=0.0),
        preparation=preparation,
        block_rows=plan.block_rows,
    )


def place_now(executor: Executor, fitted: FittedMap, X: npt.NDArray[Any] | csr_array) -> FloatArray:
    """Place the rows of an array on a map.

    Parameters
    ----------
    executor : Executor
        Entered.
    fitted : FittedMap
    X : numpy.ndarray or csr_array of shape (M, D), or (M, N) where it holds distances

    Returns
    -------
    array of shape (M, d), float64

    Raises
    ------
    InvalidInputError
        X holds NaN, infinity, a negative distance, or a row of zeros that has no direction;
        before any work.
    """
    n_rows, n_columns = X.shape
    step = row_chunks(n_rows, n_columns)[0].stop
    step = min(step, fitted.block_rows, -(-n_rows // executor.n_threads))
    parts_of_X = consecutive(slice(0, n_rows), step)
    blocks = [fitted.prepared(dense(X[rows])) for rows in parts_of_X]
    for rows, block in zip(parts_of_X, blocks, strict=True):
        _require_values(block, rows.start, fitted)
    parts = executor.map(_place, blocks, executor.broadcast(fitted))
    return np.concatenate([executor.result(part) for part in parts])


def place_later(fitted: FittedMap, X: da.Array) -> da.Array:
    """Return the places of a lazy array's rows, as lazy, in its row chunks; see `place_now`."""
    placed: da.Array = X.rechunk({1: -1}).map_blocks(
        _place_chunk,
        # One key of the graph, and not a copy in every task.
        fitted=delayed(fitted, pure=True, traverse=False),
        chunks=(X.chunks[0], (fitted.embedding.shape[1],)),
        dtype=np.float64,
        meta=np.empty((0, 0)),
    )
    return placed


def _place_chunk(X: npt.NDArray[Any], fitted: FittedMap, block_info: Any) -> FloatArray:
    first_row = block_info[0]["array-location"][0][0]
    X = fitted.prepared(X)
    _require_values(X, first_row, fitted)
    return _place(X, fitted)


def _place(X: npt.NDArray[Any], fitted: FittedMap) -> FloatArray:
    """Place some prepared rows, so many at a time as a row block has."""
    assert fitted.points is not None  # noqa: S101 - the map is open
    counts = fitted.points.counts
    embedding = fitted.embedding.read(slice(0, fitted.embedding.shape[0]))
    y = np.ascontiguousarray(embedding.T)
    placed = np.empty((len(X), embedding.shape[1]))
    for rows in consecutive(slice(0, len(X)), fitted.block_rows):
        nearest, least, excess = _measure(X[rows], fitted)
        # The row of a point that is none of the columns is numbered past the last of them.
        precision = fitted.width.calibrate(excess, len(embedding), counts).precision
        placed[rows] = place(weighted_means(excess, precision, y, counts), y, counts=counts)
        known = least == 0.0
        placed[rows][known] = embedding[nearest[known]]
    return placed


def _measure(X: npt.NDArray[Any], fitted: FittedMap) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return each row's nearest fitted point, how far that is, and how much farther each one is.

    P depends on nothing but the last, whose exponents do not overflow where distances are large,
    and in which ties are ties, as in a fit.
    """
    assert fitted.points is not None  # noqa: S101 - the map is open
    with np.errstate(over="ignore"):
        distances = fitted.points.panel_of(np.ascontiguousarray(X, dtype=np.float64))
    # Of points beyond the largest number none is nearer than another.
    np.minimum(distances, LARGEST, out=distances)
    nearest = np.argmin(distances, axis=1)
    least = distances[np.arange(len(distances)), nearest]
    distances -= least[:, np.newaxis]
    distances[distances <= TIED * least[:, np.newaxis]] = 0.0
    return nearest, least, distances


def _require_values(X: npt.NDArray[Any], first_row: int, fitted: FittedMap) -> None:
    """Raise InvalidInputError where some rows hold what no point can have."""
    bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if bad.size:
        raise InvalidInputError(
            f"X holds NaN or infinity in row {first_row + bad[0]}; remove or fill such rows"
        )
    complaint = None
    if isinstance(fitted.points, GivenDistances):
        complaint = complaint_of_sign(first_row, X)
    elif isinstance(fitted.points, Directions):
        complaint = complaint_of_direction(first_row, X)
    if complaint is not None:
        raise InvalidInputError(complaint)

"""A large map from a small one: some points are mapped first, the others placed among them.

A share m / N of the points has that share of the neighbours within any distance. So the map of m
landmarks at perplexity * m / N is as wide as the map of all points at the perplexity asked for, and
its arrangement is the one that they start from; at the perplexity itself it is a coarser map.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dasksne.executor import Executor
from dasksne.kernels.calibration import calibrate
from dasksne.kernels.distances import squared_distances
from dasksne.kernels.placement import ROUGH_DECREMENT, place, weighted_means
from dasksne.run import Run
from dasksne.source import ArrayRows, Features, StoredRows, row_chunks, row_panels
from dasksne.types import FloatArray

IndexArray = npt.NDArray[np.int64]

PLACED_ROWS = 1024
"""Of a task: enough to be worth sending, few enough for every thread to have some."""


class Landmarks(NamedTuple):
    """Points that have their places."""

    indices: IndexArray
    """Which of the points they are, ascending, shape (m,)."""
    source: Features
    """Their own distances; see `select`."""
    y: FloatArray
    """Their map, shape (m, d)."""


def landmark_indices(n_points: int, count: int, seed: int) -> IndexArray:
    """Return a random subset of the points, ascending: a function of the arguments alone.

    Examples
    --------
    >>> landmark_indices(10, 4, seed=0)
    array([0, 2, 5, 7])
    """
    generator = np.random.Generator(np.random.Philox(key=seed))
    return np.sort(generator.choice(n_points, count, replace=False))


def select(
    executor: Executor, source: Features, indices: IndexArray, run: Run | None, name: str
) -> Features:
    """Return the source of some of the points alone.

    Their rows are in memory where those of all points are; else the run keeps them under a name, so
    that a task carries no data. One task a chunk of X: only the rows asked for come here.
    """
    chunks = [
        chunk
        for chunk in row_chunks(*source.x.shape)
        if np.searchsorted(indices, chunk.start) < np.searchsorted(indices, chunk.stop)
    ]
    parts = executor.map(_take, chunks, source, executor.broadcast(indices))
    if isinstance(source.x, ArrayRows):
        rows = np.concatenate([executor.result(part) for part in parts])
        chosen = replace(source, x=ArrayRows(rows))
        executor.hold(chosen)
        return chosen
    assert isinstance(source.x, StoredRows)  # noqa: S101 - there are no other rows
    assert run is not None  # noqa: S101 - stored rows are in a run
    shape = (indices.size, source.x.shape[1])
    run.create_array(name, shape, (row_chunks(*shape)[0].stop, shape[1]))
    at = 0
    for part in parts:
        rows = executor.result(part)
        run.write(name, slice(at, at + len(rows)), rows)
        at += len(rows)
    return replace(source, x=replace(source.x, path=name, shape=shape))


def _take(chunk: slice, source: Features, indices: IndexArray) -> FloatArray:
    """Return the rows of X in a chunk that are asked for."""
    local = indices[(indices >= chunk.start) & (indices < chunk.stop)] - chunk.start
    return np.asarray(source.x.read(chunk)[local])


def place_all(
    executor: Executor,
    source: Features,
    landmarks: Landmarks,
    perplexity: float,
    blocks_done: Callable[[int, int], None],
) -> FloatArray:
    """Return a map of all points, shape (N, d); see `place_rows`.

    What is done is told on the way: how many row blocks, and of how many.
    """
    n = source.n_points
    blocks = [slice(start, min(start + PLACED_ROWS, n)) for start in range(0, n, PLACED_ROWS)]
    parts = executor.map(place_rows, blocks, source, executor.broadcast(landmarks), perplexity)
    placed = []
    for part in parts:
        placed.append(executor.result(part))
        blocks_done(len(placed), len(parts))
    return np.concatenate(placed)


def place_rows(
    rows: slice, source: Features, landmarks: Landmarks, perplexity: float
) -> FloatArray:
    """Return the places of a block of points on the landmarks' map; landmarks keep theirs.

    They are where a map starts, and as near to the points' best places as that needs.

    Parameters
    ----------
    rows : slice
    source : Features
        Of all points.
    landmarks : Landmarks
    perplexity : float
        Of each row over the landmarks; above 1 and below their number.

    Returns
    -------
    array of shape (rows, d), float64
    """
    indices, chosen, y = landmarks
    transposed = np.ascontiguousarray(y.T)
    out = np.empty((rows.stop - rows.start, y.shape[1]))
    x = source.read(rows)
    own = slice(*np.searchsorted(indices, (rows.start, rows.stop)))
    out[indices[own] - rows.start] = y[own]
    others = np.setdiff1d(np.arange(len(x)), indices[own] - rows.start, assume_unique=True)
    for panel in row_panels(slice(0, others.size)):
        new = others[panel]
        distances = _distances(x[new], chosen)
        # No column is a row's own: the first row is numbered past the last column.
        found = calibrate(distances, indices.size, perplexity)
        means = weighted_means(distances, found.precision, transposed)
        out[new] = place(means, transposed, ROUGH_DECREMENT)
    return out


def _distances(x: FloatArray, chosen: Features) -> FloatArray:
    """Return the squared distances from rows of X to the landmarks."""
    out = np.empty((len(x), chosen.n_points))
    for chunk in row_chunks(*chosen.x.shape):
        squared_distances(x, chosen.read(chunk), out, chunk.start)
    return out

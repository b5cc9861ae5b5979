"""A large map from a small one: some points are mapped first, the others placed among them.

The cost of a perplexity grows with the neighbours that it gives to each point, and the early
stages of annealing give nearly all. Landmarks, a random subset, go through them at a small part of
the cost; every other point has one best place on their map (`dasksne.kernels.placement`), and the
map of all points starts from there.

A share m / N of the points has that share of the neighbours within any distance. So the map of m
landmarks at perplexity * m / N is as wide as the map of all points at the perplexity asked for, and
its arrangement is the one that they start from; at the perplexity itself it is a coarser map.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dasksne.executor import Executor
from dasksne.kernels.calibration import calibrate
from dasksne.kernels.distances import squared_distances
from dasksne.kernels.placement import place, weighted_means
from dasksne.source import ArrayRows, Features, Precomputed, Source, row_chunks, row_panels
from dasksne.types import FloatArray

IndexArray = npt.NDArray[np.int64]


class Landmarks(NamedTuple):
    """Points that have their places."""

    indices: IndexArray
    """Which of all points they are, ascending, shape (m,)."""
    source: Source
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


def select(executor: Executor, source: Source, indices: IndexArray) -> Source:
    """Return the source of some of the points alone; their rows of X are held in memory.

    One task a chunk of X, so that X is read where tasks run and only the rows asked for come here.
    """
    assert isinstance(source, Features | Precomputed)  # noqa: S101 - there is no other source
    chunks = [
        chunk
        for chunk in row_chunks(*source.x.shape)
        if np.searchsorted(indices, chunk.start) < np.searchsorted(indices, chunk.stop)
    ]
    parts = executor.map(_take, chunks, source, executor.broadcast(indices))
    rows = np.concatenate([executor.result(part) for part in parts])
    return replace(source, x=ArrayRows(rows))


def _take(chunk: slice, source: Features | Precomputed, indices: IndexArray) -> FloatArray:
    """Return the rows of X in a chunk that are asked for; of distances, the columns too."""
    local = indices[(indices >= chunk.start) & (indices < chunk.stop)] - chunk.start
    rows = source.x.read(chunk)[local]
    return np.asarray(rows[:, indices]) if isinstance(source, Precomputed) else rows


def place_rows(rows: slice, source: Source, landmarks: Landmarks, perplexity: float) -> FloatArray:
    """Return the places of a block of points on the landmarks' map; landmarks keep theirs.

    Parameters
    ----------
    rows : slice
    source : Source
        Of all points.
    landmarks : Landmarks
    perplexity : float
        Of each row over the landmarks; above 1 and below their number.

    Returns
    -------
    array of shape (rows, d), float64
    """
    indices, _, y = landmarks
    transposed = np.ascontiguousarray(y.T)
    out = np.empty((rows.stop - rows.start, y.shape[1]))
    for panel in row_panels(rows):
        new = np.setdiff1d(np.arange(panel.start, panel.stop), indices, assume_unique=True)
        distances = _distances(panel, source, landmarks)[new - panel.start]
        # No column is a row's own: the first row is numbered past the last column.
        found = calibrate(distances, indices.size, perplexity)
        means = weighted_means(distances, found.precision, transposed)
        out[new - rows.start] = place(means, transposed)
    own = slice(*np.searchsorted(indices, (rows.start, rows.stop)))
    out[indices[own] - rows.start] = y[own]
    return out


def _distances(rows: slice, source: Source, landmarks: Landmarks) -> FloatArray:
    """Return the squared distances from rows to the landmarks."""
    if not isinstance(source, Features):
        return np.asarray(source.panel(rows)[:, landmarks.indices])
    assert isinstance(landmarks.source, Features)  # noqa: S101 - selected from this source
    m = landmarks.indices.size
    out = np.empty((rows.stop - rows.start, m))
    squared_distances(source.read(rows), landmarks.source.read(slice(0, m)), out)
    return out

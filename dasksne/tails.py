"""What dropping the tails of P does: what is left, and the error of the gradient with its bound.

With m_i the mass dropped from row i, a_i = sum_j p_{i|j} m_j, b_i the mass dropped from column i
and r_i the distance from y_i to the farthest point of the map,

    |dG_i| <= 2 [ m_i diam(Y) + (a_i + b_i) r_i ].

Row i loses m_i of its pull and gives as much to what it keeps: two points of the map are at most
diam(Y) apart. Column i changes by at most a_i (rows normalised again) and b_i (entries lost), each
times a difference of at most r_i. The box around the map gives diam(Y) and r_i from above.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dasksne.executor import Executor
from dasksne.kernels.calibration import Calibration
from dasksne.kernels.tails import add_column_masses
from dasksne.shards import ComputedShard
from dasksne.source import Source, row_panels
from dasksne.types import FloatArray

SAMPLED_BLOCKS = 125
SAMPLED_ROWS = 8
"""Of a block: a thousand points in all, spread over the data as it lies."""


class Tails(NamedTuple):
    """What was dropped and what that does to the gradient at a map."""

    kept_share: float
    """Of the entries of P."""
    largest_dropped: float
    """Mass of a row."""
    mean_dropped: float
    perplexity_left: float
    """Mean over rows of exp(entropy)."""
    largest_bound: float
    """Of |dG_i| over all points."""
    largest_error: float
    """Of |dG_i| over the sampled points, exact."""
    sampled_points: int


def describe_tails(
    executor: Executor,
    source: Source,
    cut: Calibration,
    y: FloatArray,
    shard_rows: Sequence[slice],
) -> Tails:
    """Return what truncation did at a map of shape (N, d)."""
    errors = gradient_errors(executor, source, cut, y)
    n = len(y)
    return Tails(
        kept_share=float(np.sum(cut.kept) / (n * (n - 1.0))),
        largest_dropped=float(np.max(cut.dropped)),
        mean_dropped=float(np.mean(cut.dropped)),
        perplexity_left=float(np.mean(np.exp(cut.entropy))),
        largest_bound=float(np.max(error_bounds(executor, source, cut, y, shard_rows))),
        largest_error=float(np.max(errors)),
        sampled_points=errors.size,
    )


def error_bounds(
    executor: Executor,
    source: Source,
    cut: Calibration,
    y: FloatArray,
    shard_rows: Sequence[slice],
) -> FloatArray:
    """Return the bound of |dG_i| at every point, shape (N,)."""
    parts = executor.map(_column_masses, shard_rows, source, executor.broadcast(cut))
    masses = np.concatenate([executor.result(part) for part in parts])
    low, high = np.min(y, axis=0), np.max(y, axis=0)
    diameter = np.sqrt(np.sum((high - low) ** 2))
    farthest = np.sqrt(np.sum(np.maximum(y - low, high - y) ** 2, axis=1))
    return np.asarray(2.0 * (cut.dropped * diameter + masses * farthest))


def gradient_errors(
    executor: Executor, source: Source, cut: Calibration, y: FloatArray
) -> FloatArray:
    """Return |dG_i| at sampled points; at all points where there are no more than a thousand."""
    n = len(y)
    step = max(SAMPLED_ROWS, n // SAMPLED_BLOCKS)
    rows = [slice(start, min(start + SAMPLED_ROWS, n)) for start in range(0, n, step)]
    shared = executor.broadcast(cut), executor.broadcast(np.ascontiguousarray(y.T))
    parts = executor.map(_gradient_error, rows, source, *shared)
    return np.concatenate([executor.result(part) for part in parts])


def whole_rows(cut: Calibration) -> Calibration:
    """Return the calibration that the rows had before they were truncated."""
    return cut._replace(
        log_normaliser=cut.log_normaliser - np.log1p(-cut.dropped),
        cutoff=np.full_like(cut.cutoff, np.inf),
    )


def _column_masses(rows: slice, source: Source, cut: Calibration) -> FloatArray:
    """Return a_i + b_i of some rows."""
    whole = whole_rows(cut)
    weighted, lost = np.zeros(rows.stop - rows.start), np.zeros(rows.stop - rows.start)
    for panel in row_panels(rows):
        at = slice(panel.start - rows.start, panel.stop - rows.start)
        for tile in source.tiles(panel):
            add_column_masses(
                tile.distances_back, panel, tile.columns, whole, cut, weighted[at], lost[at]
            )
    return weighted + lost


def _gradient_error(rows: slice, source: Source, cut: Calibration, y: FloatArray) -> FloatArray:
    forces = []
    for found in (cut, whole_rows(cut)):
        force, energy = np.zeros((rows.stop - rows.start, len(y))), np.zeros(rows.stop - rows.start)
        for block in ComputedShard(rows, source, found).blocks():
            block.attract(y, force, energy)
        forces.append(force)
    return np.asarray(2.0 * np.sqrt(np.sum((forces[0] - forces[1]) ** 2, axis=1)))

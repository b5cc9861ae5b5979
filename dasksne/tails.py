"""What dropping the tails of P does: what is left, and the error of the gradient with its bound.

With m_i the mass dropped from row i, b_i the mass dropped from column i, c_i the sum of column i as
it is kept and r_i the distance from y_i to the farthest point of the map,

    |dG_i| <= 2 [ m_i diam(Y) + (c_i max_j m_j + b_i) r_i ].

Row i loses m_i of its pull and gives as much to what it keeps: two points of the map are at most
diam(Y) apart. An entry of column i that row j keeps has become larger by the share m_j of what it
is, and the others are lost, each times a difference of at most r_i. The box around the map gives
diam(Y) and r_i from above, `kernels.tails` b_i.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dasksne.executor import Executor
from dasksne.kernels.attraction import Places
from dasksne.kernels.calibration import Calibration
from dasksne.kernels.tails import add_own_losses, masses_lost
from dasksne.shards import ComputedShard
from dasksne.source import Source, row_panels
from dasksne.types import FloatArray, IntArray

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
    executor: Executor, source: Source, cut: Calibration, y: FloatArray, bounds: FloatArray
) -> Tails:
    """Return what truncation did at a map of shape (N, d); see `error_bounds`."""
    errors = gradient_errors(executor, source, cut, y)
    n = len(y)
    return Tails(
        kept_share=float(np.sum(cut.kept) / (n * (n - 1.0))),
        largest_dropped=float(np.max(cut.dropped)),
        mean_dropped=float(np.mean(cut.dropped)),
        perplexity_left=float(np.mean(np.exp(cut.entropy))),
        largest_bound=float(np.max(bounds)),
        largest_error=float(np.max(errors)),
        sampled_points=errors.size,
    )


def error_bounds(
    cut: Calibration, y: FloatArray, degrees: FloatArray, lost: IntArray, tail_mass: float
) -> FloatArray:
    """Return the bound of |dG_i| at every point, shape (N,).

    Parameters
    ----------
    cut : Calibration
        Of all points.
    y : array of shape (N, d)
    degrees : array of shape (N,)
        Sums of the rows of S = P + P^T, as it is kept.
    lost : array of shape (N,)
        Of `column_losses`.
    tail_mass : float
    """
    low, high = np.min(y, axis=0), np.max(y, axis=0)
    diameter = np.sqrt(np.sum((high - low) ** 2))
    farthest = np.sqrt(np.sum(np.maximum(y - low, high - y) ** 2, axis=1))
    # Rows of P sum to one.
    changed = np.max(cut.dropped) * (degrees - 1.0) + masses_lost(lost, cut, tail_mass)
    return np.asarray(2.0 * (cut.dropped * diameter + changed * farthest))


def column_losses(
    executor: Executor,
    source: Source,
    cut: Calibration,
    tail_mass: float,
    shard_rows: Sequence[slice],
) -> IntArray:
    """Return what each column loses, shape (N,); see `kernels.tails`.

    Where the tasks that calibrated all rows share memory, they have found the same on their way.
    """
    shared = executor.broadcast(cut)
    parts = executor.map(_column_losses, shard_rows, source, shared, tail_mass)
    return np.concatenate([executor.result(part) for part in parts])


def gradient_errors(
    executor: Executor, source: Source, cut: Calibration, y: FloatArray
) -> FloatArray:
    """Return |dG_i| at sampled points; at all points where there are no more than a thousand."""
    n = len(y)
    step = max(SAMPLED_ROWS, n // SAMPLED_BLOCKS)
    rows = [slice(start, min(start + SAMPLED_ROWS, n)) for start in range(0, n, step)]
    shared = executor.broadcast(cut), executor.broadcast(y)
    parts = executor.map(_gradient_error, rows, source, *shared)
    return np.concatenate([executor.result(part) for part in parts])


def whole_rows(cut: Calibration) -> Calibration:
    """Return the calibration that the rows had before they were truncated."""
    return cut._replace(
        log_normaliser=cut.log_normaliser - np.log1p(-cut.dropped),
        cutoff=np.full_like(cut.cutoff, np.inf),
    )


def _column_losses(rows: slice, source: Source, cut: Calibration, tail_mass: float) -> IntArray:
    lost = np.zeros(rows.stop - rows.start, dtype=np.int64)
    for panel in row_panels(rows):
        own = lost[panel.start - rows.start : panel.stop - rows.start]
        for tile in source.tiles(panel):
            add_own_losses(tile.distances_back, panel, tile.columns, cut, tail_mass, own)
    return lost


def _gradient_error(rows: slice, source: Source, cut: Calibration, y: FloatArray) -> FloatArray:
    places, forces = Places(y), []
    for found in (cut, whole_rows(cut)):
        force = np.zeros_like(y[rows])
        for block in ComputedShard(rows, source, found).blocks():
            block.attract(places, force)
        forces.append(force)
    return np.asarray(2.0 * np.sqrt(np.sum((forces[0] - forces[1]) ** 2, axis=1)))

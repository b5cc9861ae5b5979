"""From data to what a gradient step needs of P.

Two passes over pairs, each one task a row block and none that talks to another: the first finds
the precision and normaliser of each row (and writes P where it is kept), the second makes the rows
of S = P + P^T from distances again. With both numbers of every point known, p_{i|j} is as near as
p_{j|i}: nothing of size N^2 ever moves between tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dasksne.executor import Executor, Handle
from dasksne.kernels.calibration import Calibration, calibrate, normalise
from dasksne.kernels.probabilities import conditional_probabilities
from dasksne.plan import Plan
from dasksne.run import Run
from dasksne.shards import ComputedShard, HeldShard, StoredShard
from dasksne.source import Source
from dasksne.types import FloatArray


@dataclass(frozen=True)
class Width:
    """How wide each row's Gaussian is: by perplexity, or one precision for all rows."""

    perplexity: float | None
    precision: float | None

    def calibrate(self, distances: FloatArray, first_row: int) -> Calibration:
        """Return precision, normaliser and entropy of the rows of a panel."""
        if self.perplexity is not None:
            return calibrate(distances, first_row, self.perplexity)
        assert self.precision is not None  # noqa: S101 - one of the two is always given
        return normalise(distances, first_row, self.precision)


class Outputs(NamedTuple):
    """What a calibration task writes to the run beside its numbers."""

    run: Run | None
    probabilities: bool
    distances: bool


def start_calibration(
    executor: Executor,
    source: Source,
    width: Width,
    blocks: Sequence[slice],
    outputs: Outputs,
) -> list[Handle]:
    """Start one task a row block; each returns the block's Calibration."""
    return executor.map(_calibrate_block, blocks, source, width, outputs)


def _calibrate_block(rows: slice, source: Source, width: Width, outputs: Outputs) -> Calibration:
    distances = source.panel(rows)
    found = width.calibrate(distances, rows.start)
    run = outputs.run
    if run is not None:
        if outputs.distances:
            run.write("distances", rows, np.ldexp(np.sqrt(distances), source.exponent))
        if outputs.probabilities:
            p = np.empty(distances.shape, dtype=run.array("P").dtype)
            conditional_probabilities(
                distances, rows.start, found.precision, found.log_normaliser, p
            )
            run.write("P", rows, p)
        run.finish_block(rows, found, source.exponent)
    return found


def start_shards(
    executor: Executor, source: Source, calibration: Calibration, plan: Plan, run: Run | None
) -> list[Handle]:
    """Start one task a shard; each result is the Shard, and stays where it was computed."""
    shared = executor.broadcast(calibration)
    if plan.p_storage == "recompute":
        return executor.map(ComputedShard, plan.shard_rows, source, shared)
    if plan.p_storage == "memory":
        return executor.map(_hold_shard, plan.shard_rows, source, shared, plan.dtype)
    return executor.map(_store_shard, plan.shard_rows, source, shared, run, plan.block_rows)


def _hold_shard(rows: slice, source: Source, calibration: Calibration, dtype: str) -> HeldShard:
    joint = np.empty((rows.stop - rows.start, source.n_points), dtype=dtype)
    _fill(joint, rows, source, calibration)
    return HeldShard(rows, joint)


def _store_shard(
    rows: slice, source: Source, calibration: Calibration, run: Run, block_rows: int
) -> StoredShard:
    array = run.array("S", "r+")
    for start in range(rows.start, rows.stop, block_rows):
        block = slice(start, min(start + block_rows, rows.stop))
        joint = np.empty((block.stop - block.start, source.n_points), dtype=array.dtype)
        _fill(joint, block, source, calibration)
        array[block] = joint
    return StoredShard(rows, run, block_rows)


def _fill(out: FloatArray, rows: slice, source: Source, calibration: Calibration) -> None:
    for block in ComputedShard(rows, source, calibration).blocks():
        at = slice(block.rows.start - rows.start, block.rows.stop - rows.start)
        out[at, block.columns] = block.joint

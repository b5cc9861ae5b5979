"""From data to what a gradient step needs of P.

Two passes over pairs, each one task a row block and none that talks to another: the first finds
the precision and normaliser of each row (and writes P where it is kept), the second makes the rows
of S = P + P^T from distances again. With both numbers of every point known, p_{i|j} is as near as
p_{j|i}: nothing of size N^2 ever moves between tasks, and who loses a shard computes that one.
Where tasks share memory, and so little of P is kept that it can wait there, S is put together from
it instead, with the same bits.
"""

import sys
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from dasksne.executor import Executor, Handle
from dasksne.finished import finish_block
from dasksne.given import SparseAffinities
from dasksne.kernels.calibration import Calibration, calibrate, normalise
from dasksne.kernels.joining import SparseRows, join
from dasksne.kernels.probabilities import conditional_probabilities, kept_probabilities
from dasksne.kernels.tails import add_losses
from dasksne.plan import INDEX_BYTES, LARGEST_JOINED_SHARE, Plan
from dasksne.run import CHECKED, Run
from dasksne.settings import Settings
from dasksne.shards import (
    ComputedShard,
    DenseBlock,
    HeldShard,
    SparseBlock,
    StoredShard,
    dense_rows,
    sparse_rows,
)
from dasksne.source import Source
from dasksne.sparse import write_sparse
from dasksne.types import FloatArray, IntArray

SAMPLED_BLOCKS = 25
SAMPLED_ROWS = 8


@dataclass(frozen=True)
class Width:
    """How wide each row's Gaussian is: by perplexity, or by precisions that are known."""

    perplexity: float | None
    precision: float | FloatArray | None
    """One for all rows, or one for each of all points."""
    tail_mass: float = 0.0
    """The most that a row of P drops."""

    def __sizeof__(self) -> int:
        # Dask asks, to decide how a value travels, and does not look inside.
        return object.__sizeof__(self) + sys.getsizeof(self.precision)

    def calibrate(
        self, distances: FloatArray, first_row: int, counts: FloatArray | None = None
    ) -> Calibration:
        """Return what is kept of the rows of a panel; `counts` as of a `Source`."""
        if self.perplexity is not None:
            return calibrate(distances, first_row, self.perplexity, self.tail_mass, counts)
        assert self.precision is not None  # noqa: S101 - one of the two is always given
        given = self.precision
        if isinstance(given, np.ndarray):
            given = given[first_row : first_row + len(distances)]
        return normalise(distances, first_row, given, self.tail_mass, counts)


def width_of(settings: Settings, perplexity: float, exponent: int) -> Width:
    """Return the width for a stage's perplexity, or for the sigma or the affinities given."""
    asked = None if settings.perplexity is None else perplexity
    return make_width(asked, settings.sigma, settings.tail_mass, exponent)


def make_width(
    perplexity: float | None, sigma: float | FloatArray | None, tail_mass: float, exponent: int
) -> Width:
    """Return the width in the units of data divided by 2**exponent; a precision may overflow.

    Affinities, for which neither is given, are their own: they have precision one.
    """
    if perplexity is not None:
        return Width(perplexity, None, tail_mass)
    with np.errstate(over="ignore", divide="ignore"):
        precision = 1.0 if sigma is None else np.ldexp(sigma, -exponent) ** -2.0
    return Width(None, precision, tail_mass)


def sampled_share(source: Source, settings: Settings, tail_mass: float) -> float:
    """Return the share of P that is kept, from 200 rows spread over the data."""
    if isinstance(source, SparseAffinities):
        return source.kept_share
    if tail_mass == 0.0:
        return 1.0
    n = source.n_points
    width = make_width(settings.perplexity, settings.sigma, tail_mass, source.exponent)
    step = max(SAMPLED_ROWS, n // SAMPLED_BLOCKS)
    kept = []
    for start in range(0, n, step):
        panel = source.panel(slice(start, min(start + SAMPLED_ROWS, n)))
        kept.append(width.calibrate(panel, start).kept)
    return float(np.mean(np.concatenate(kept)) / (n - 1))


KeptRows: TypeAlias = dict[int, SparseRows]
"""Row blocks of P in this process's memory, by their first row."""
Losses: TypeAlias = dict[int, IntArray]
"""What each column of P loses by the row blocks that a thread of this process calibrated, by the
thread."""


class Outputs(NamedTuple):
    """What a calibration task writes beside its numbers: to the run, and to memory."""

    run: Run | None
    run_id: str | None
    """Of that run: where another one has taken its place, nothing is written. (Tasks of a driver
    that was killed are not stopped.)"""
    probabilities: bool
    distances: bool
    dtype: str
    kept: KeptRows | None = None
    """Where row blocks go of which little is kept; None where tasks share no memory."""
    lost: Losses | None = None
    """Where what columns lose is added up, if it is asked for; None where tasks share no memory."""


def start_calibration(
    executor: Executor,
    source: Source,
    width: Width,
    blocks: Sequence[slice],
    outputs: Outputs,
) -> list[Handle]:
    """Start one task a row block; each returns the block's Calibration."""
    shared = executor.broadcast(width, len(blocks))
    return executor.map(_calibrate_block, blocks, source, shared, outputs)


def _calibrate_block(rows: slice, source: Source, width: Width, outputs: Outputs) -> Calibration:
    if isinstance(source, SparseAffinities):
        found = source.calibrate(rows)
        if outputs.run is not None:
            outputs.run.require_same(outputs.run_id)
            finish_block(outputs.run, rows, found)
        return found
    distances = source.panel(rows, _panel_buffer(rows.stop - rows.start, source.n_points))
    found = width.calibrate(distances, rows.start, source.counts)
    run = outputs.run
    if outputs.lost is not None:
        none = np.zeros(source.n_points, dtype=np.int64)
        mine = outputs.lost.setdefault(threading.get_ident(), none)
        add_losses(distances, rows.start, found, width.tail_mass, mine)
    if outputs.kept is not None and np.mean(found.kept) <= LARGEST_JOINED_SHARE * source.n_points:
        outputs.kept[rows.start] = SparseRows(*kept_probabilities(distances, rows.start, found))
    if run is not None:
        run.require_same(outputs.run_id)
        if outputs.distances:
            run.write("distances", rows, np.ldexp(np.sqrt(distances), source.exponent))
        if outputs.probabilities:
            _write_probabilities(run, rows, distances, found, outputs.dtype, width.tail_mass)
        finish_block(run, rows, found)
    return found


_kept = threading.local()


def _panel_buffer(n_rows: int, n_points: int) -> FloatArray:
    """Return this thread's memory for a panel: fresh pages for each cost a third of its distances.

    It goes when its thread does; a worker's thread keeps that of the last run.
    """
    size = n_rows * n_points
    if getattr(_kept, "buffer", np.empty(0)).size < size:
        _kept.buffer = np.empty(size)
    buffer: FloatArray = _kept.buffer[:size].reshape(n_rows, n_points)
    return buffer


def _write_probabilities(
    run: Run, rows: slice, distances: FloatArray, found: Calibration, dtype: str, tail_mass: float
) -> None:
    """Write a row block of P: every entry, or the kept ones as a CSR matrix of its own."""
    if tail_mass == 0.0:
        p = np.empty(distances.shape, dtype=dtype)
        conditional_probabilities(distances, rows.start, found, p)
        run.write("P", rows, p)
    else:
        data, indices, indptr = kept_probabilities(distances, rows.start, found)
        write_sparse(run, "P", rows.start, data.astype(dtype), indices, indptr)


class Shards(NamedTuple):
    """S, as the tasks of a gradient step are given it."""

    items: list[Handle]
    """One for each shard: its result or, where it is computed in each step, its rows."""
    parts: tuple[Any, ...] = ()
    """What those rows are computed from: source and calibration. (In a shard of its own each would
    take them along whenever Dask moves it.)"""


def start_shards(
    executor: Executor,
    source: Source,
    calibration: Calibration,
    plan: Plan,
    run: Run | None,
    kept: KeptRows | None = None,
) -> Shards:
    """Start one task a shard; each result is the Shard, and stays where it was computed.

    Rows of P in memory are used where all of them are there.
    """
    if plan.p_storage == "recompute":
        # Read in each of a hundred steps or more: it is sent once.
        shared = executor.broadcast(calibration, 100 * plan.shards)
        return Shards(list(plan.shard_rows), (source, shared))
    if isinstance(source, SparseAffinities):
        whole = executor.broadcast([source.probabilities()], plan.shards)
        return Shards(executor.map(_join_shard, plan.shard_rows, whole, plan.dtype))
    if plan.p_storage == "memory" and kept and len(kept) == plan.n_blocks:
        blocks = [kept[rows.start] for rows in plan.blocks]
        return Shards(executor.map(_join_shard, plan.shard_rows, blocks, plan.dtype))
    shared, sparse = executor.broadcast(calibration), is_sparse(calibration, plan)
    if plan.p_storage == "memory":
        held = executor.map(_hold_shard, plan.shard_rows, source, shared, plan.dtype, sparse)
        return Shards(held)
    assert run is not None  # noqa: S101 - such a plan has a run
    stored = _new_shards(run, plan, sparse=sparse)
    return Shards(executor.map(_store_shard, stored, source, shared, plan.dtype))


def _new_shards(run: Run, plan: Plan, *, sparse: bool) -> list[StoredShard]:
    """Return the shards that are to be stored in a run, in place of those that it has."""
    run.delete("S")
    # A name of its own: tasks of a driver that was killed may still write what they were given.
    name = f"S/{uuid.uuid4().hex}"
    if not sparse:
        shape = (plan.n_points, plan.n_points)
        chunks = (plan.stored_rows, plan.n_points)
        run.create_array(name, shape, chunks, plan.dtype, codecs=CHECKED)
    step = plan.stored_sparse_rows if sparse else plan.stored_rows
    return [StoredShard(rows, run, name, step, sparse) for rows in plan.shard_rows]


def is_sparse(calibration: Calibration, plan: Plan) -> bool:
    """Say whether so little is kept that S takes less memory as a sparse matrix.

    It has at most twice as many entries as P, of a value and an index each.
    """
    largest = plan.itemsize / (2 * (plan.itemsize + INDEX_BYTES))
    return bool(np.mean(calibration.kept) < largest * len(calibration.kept))


def _hold_shard(
    rows: slice, source: Source, calibration: Calibration, dtype: str, sparse: bool
) -> HeldShard:
    if sparse:
        panels = ComputedShard(rows, source, calibration).sparse_blocks(dtype)
        return HeldShard(rows, tuple(panels))
    joint = dense_rows(rows, source, calibration, dtype)
    return HeldShard(rows, (DenseBlock(rows, slice(0, source.n_points), joint),))


def _join_shard(rows: slice, blocks: Sequence[SparseRows], dtype: str) -> HeldShard:
    data, indices, indptr = join(blocks, rows.start, rows.stop)
    return HeldShard(rows, (SparseBlock(rows, data.astype(dtype), indices.copy(), indptr),))


def _store_shard(
    shard: StoredShard, source: Source, calibration: Calibration, dtype: str
) -> StoredShard:
    for rows in shard.row_blocks():
        if shard.sparse:
            block = sparse_rows(rows, source, calibration, dtype)
            write_sparse(shard.run, shard.name, rows.start, *block[1:], codecs=CHECKED)
        else:
            shard.run.write(shard.name, rows, dense_rows(rows, source, calibration, dtype))
    return shard

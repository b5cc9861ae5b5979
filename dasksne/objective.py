"""One evaluation of the cost and its gradient, as a map over shards and a sum of what they return.

A task returns its own rows only, and they come here in one trip. The attraction needs S, shard by
shard; the repulsion needs nothing but the map, and goes by Fourier sums beside the attraction where
they cost less than all pairs. Several maps share one pass over S.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dasksne.executor import Executor, Handle
from dasksne.kernels.attraction import Places
from dasksne.kernels.calibration import Calibration
from dasksne.plan import Repulsion
from dasksne.repulsion import start_repulsion
from dasksne.shards import ComputedShard, Shard
from dasksne.source import Source
from dasksne.types import Evaluation, FloatArray


@dataclass(frozen=True)
class SNEObjective:
    """C and dC/dY for a P that is kept in shards.

    With A the attraction, R the repulsion and Z the normalisers of Q,

        C     = -sum_i H(P_i) + sum_i y_i . A_i + sum_i log Z_i
        dC/dY = 2 (A - R)

    as A = diag(S 1) Y - S Y for the symmetric S = P + P^T, whose quadratic form is
    sum_ij p_{j|i} |y_i - y_j|^2.
    A point i that counts c_i times is c_i copies that stay together: sums over i have the factor
    c_i, A and R are sums over the copies.
    """

    executor: Executor
    shards: Sequence[Handle]
    """Those of `affinities.Shards`, for tasks."""
    shard_rows: Sequence[slice]
    entropy: float
    """sum_i c_i H(P_i), in nats."""
    repulsion: Repulsion
    repulsion_rtol: float
    """The error allowed to each row where the repulsion goes by Fourier sums."""
    parts: tuple[Any, ...] = ()
    """What shards are computed from in each step, where only their rows are given."""
    in_memory: bool = True
    """Whether S is: its tasks are then so short that several go as one."""
    counts: FloatArray | None = None
    """How often each point counts, held by the executor; None where each counts once."""
    own_degrees: FloatArray | float = 0.0
    """What copies of each point are to each other: the diagonal of S, which pulls at nothing."""

    def __call__(self, y: FloatArray) -> Evaluation:
        """Evaluate a map of shape (N, d); one that is not finite has no finite cost."""
        return self.evaluate_all([y])[0]

    def evaluate_all(self, maps: Sequence[FloatArray]) -> list[Evaluation]:
        """Evaluate several maps in one pass over S: where it is read or computed, once for all.

        Each has the bits that it has by itself.
        """
        maps = [np.ascontiguousarray(y, dtype=np.float64) for y in maps]
        finite = [y for y in maps if np.all(np.isfinite(y))]
        found = iter(self._evaluate_finite(finite) if finite else [])
        return [next(found) if np.all(np.isfinite(y)) else _no_evaluation(y) for y in maps]

    def _evaluate_finite(self, maps: Sequence[FloatArray]) -> list[Evaluation]:
        # All pairs of the map itself are two passes, of a task a shard each.
        others = 2 * len(self.shard_rows) if self.repulsion == "direct" else 0
        shared = [self._share(y, others) for y in maps]
        # Started before the attraction: its longest task must not come last.
        repulsions = [
            start_repulsion(
                self.executor,
                y,
                there,
                self.shard_rows,
                self.repulsion,
                self.repulsion_rtol,
                self.counts,
            )
            for y, there in zip(maps, shared, strict=True)
        ]
        pulls = self._start(_attract, *shared)
        pushes = [finish() for finish in repulsions]
        found = []
        forces = zip(*self.executor.result(pulls), strict=True)
        for y, (push, log_z), own in zip(maps, pushes, forces, strict=True):
            # Of all rows at once: sums of shards would give each layout bits of its own.
            force = np.concatenate(own)
            # Forces add up to zero, but for rounding, which a map far from zero would magnify.
            energy = np.sum((y - np.mean(y, axis=0)) * force)
            log_zs = np.sum(log_z if self.counts is None else self.counts * log_z)
            cost = float(energy + log_zs) - self.entropy
            found.append(Evaluation(cost, 2.0 * (force - push)))
        return found

    def attraction(self, v: FloatArray) -> FloatArray:
        """Return diag(S 1) V - S V, shape (N, k): the attraction's Laplacian times k columns."""
        v = np.ascontiguousarray(v, dtype=np.float64)
        parts = self.executor.result(self._start(_attract, self._share(v)))
        return np.concatenate([force for (force,) in parts])

    @cached_property
    def degrees(self) -> FloatArray:
        """S 1, shape (N,), the diagonal of S included."""
        degrees = np.concatenate(self.executor.result(self._start(_degrees)))
        return np.asarray(degrees + self.own_degrees)

    def _share(self, y: FloatArray, others: int = 0) -> Handle:
        """Broadcast what each task of `_start` reads, and so many others."""
        n_shards = len(self.shards)
        n_tasks = min(n_shards, self.executor.n_threads) if self.in_memory else n_shards
        return self.executor.broadcast(y, n_tasks + others)

    def _start(self, function: Callable[..., Any], *shared: Handle) -> Handle:
        """Start function(shard, *shared) for all shards; the handle is that of all results."""
        if self.parts:
            return self.executor.map_all(
                _compute_joint, self.shards, function, *self.parts, *shared
            )
        return self.executor.map_all(function, self.shards, *shared, quick=self.in_memory)


def _compute_joint(
    rows: slice,
    function: Callable[..., Any],
    source: Source,
    calibration: Calibration,
    *shared: Any,
) -> Any:
    """Return what a function gives of a shard that is computed for it."""
    return function(ComputedShard(rows, source, calibration), *shared)


def _degrees(shard: Shard) -> FloatArray:
    first = shard.rows.start
    out = np.zeros(shard.rows.stop - first)
    for block in shard.blocks():
        block.add_degrees(out[block.rows.start - first : block.rows.stop - first])
    return out


def _attract(shard: Shard, *maps: FloatArray) -> list[FloatArray]:
    """Return the attraction of the shard's rows for each map."""
    places = [Places(y) for y in maps]
    first, n_rows = shard.rows.start, shard.rows.stop - shard.rows.start
    forces = [np.zeros((n_rows, y.shape[1])) for y in maps]
    for block in shard.blocks():
        at = slice(block.rows.start - first, block.rows.stop - first)
        for y, force in zip(places, forces, strict=True):
            block.attract(y, force[at])
    return forces


def _no_evaluation(y: FloatArray) -> Evaluation:
    return Evaluation(np.nan, np.full(y.shape, np.nan))

"""One evaluation of the cost and its gradient, as a map over shards and a sum of what they return.

A task returns its own rows only; the last one puts them together, so that a step brings one result
to the driver. The attraction needs S, shard by shard; the repulsion needs nothing but the map, and
goes by Fourier sums beside the attraction where they cost less than all pairs. Several maps share
one pass over S.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dasksne.executor import Executor, Handle
from dasksne.kernels.attraction import Places
from dasksne.plan import Repulsion
from dasksne.repulsion import stack_rows, start_repulsion
from dasksne.shards import Shard
from dasksne.types import Evaluation, FloatArray


@dataclass(frozen=True)
class SNEObjective:
    """C and dC/dY for a P that is kept in shards.

    With A the attraction, R the repulsion and Z the normalisers of Q,

        C     = -sum_i H(P_i) + sum_ij p_{j|i} |y_i - y_j|^2 + sum_i log Z_i
        dC/dY = 2 (A - R)

    A point i that counts c_i times is c_i copies that stay together: sums over i have the factor
    c_i, A and R are sums over the copies.
    """

    executor: Executor
    shards: Sequence[Handle]
    """Results of `affinities.start_shards`."""
    shard_rows: Sequence[slice]
    entropy: float
    """sum_i c_i H(P_i), in nats."""
    repulsion: Repulsion
    repulsion_rtol: float
    """The error allowed to each row where the repulsion goes by Fourier sums."""
    counts: Handle | None = None
    """How often each point counts, broadcast; None where each counts once."""
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
        shared = [self.executor.broadcast(y, len(self.shards) + 1) for y in maps]
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
        pulls = self.executor.map(_attract, self.shards, *shared)
        pushes = [finish() for finish in repulsions]
        whole = self.executor.reduce(_put_together, [self.counts, *pushes, *pulls])
        return [
            Evaluation(cross_entropy - self.entropy, gradient)
            for cross_entropy, gradient in self.executor.result(whole)
        ]

    def attraction(self, v: FloatArray) -> FloatArray:
        """Return diag(S 1) V - S V, shape (N, k): the attraction's Laplacian times k columns."""
        v = np.ascontiguousarray(v, dtype=np.float64)
        shared = self.executor.broadcast(v, len(self.shards))
        parts = self.executor.map(_attract, self.shards, shared)
        return np.concatenate([self.executor.result(part)[0][0] for part in parts])

    @cached_property
    def degrees(self) -> FloatArray:
        """S 1, shape (N,), the diagonal of S included."""
        parts = self.executor.map(_degrees, self.shards)
        degrees = np.concatenate([self.executor.result(part) for part in parts])
        return np.asarray(degrees + self.own_degrees)


def _degrees(shard: Shard) -> FloatArray:
    first = shard.rows.start
    out = np.zeros(shard.rows.stop - first)
    for block in shard.blocks():
        block.add_degrees(out[block.rows.start - first : block.rows.stop - first])
    return out


def _put_together(parts: Sequence[Any]) -> list[tuple[float, FloatArray]]:
    """Return -sum_ij p_{j|i} log q_{j|i} and the gradient of each map.

    The parts are the counts, a push for each map, then the pulls of each shard for all maps.
    """
    counts, *parts = parts
    n_maps = len(parts[-1])
    found = []
    for (push, log_z), *pulls in zip(parts[:n_maps], *parts[n_maps:], strict=True):
        force, energy = stack_rows(pulls)
        log_zs = np.sum(log_z if counts is None else counts * log_z)
        cross_entropy = float(0.5 * np.sum(energy) + log_zs)
        found.append((cross_entropy, 2.0 * (force - push)))
    return found


def _attract(shard: Shard, *maps: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
    """Return force and energy of the shard's rows for each map."""
    places = [Places(y) for y in maps]
    first, n_rows = shard.rows.start, shard.rows.stop - shard.rows.start
    found = [(np.zeros((n_rows, y.shape[1])), np.zeros(n_rows)) for y in maps]
    for block in shard.blocks():
        at = slice(block.rows.start - first, block.rows.stop - first)
        for y, (force, energy) in zip(places, found, strict=True):
            block.attract(y, force[at], energy[at])
    return found


def _no_evaluation(y: FloatArray) -> Evaluation:
    return Evaluation(np.nan, np.full(y.shape, np.nan))

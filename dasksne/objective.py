"""One evaluation of the cost and its gradient, as a map over shards and a sum on the driver.

A task returns its own rows only; the last one puts them together, so that a step brings one result
to the driver. The attraction needs S, shard by shard; the repulsion needs nothing but the map, and
goes by Fourier sums beside the attraction where they cost less than all pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dasksne.executor import Executor, Handle
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
    """

    executor: Executor
    shards: Sequence[Handle]
    """Results of `affinities.start_shards`."""
    shard_rows: Sequence[slice]
    entropy: float
    """sum_i H(P_i), in nats."""
    repulsion: Repulsion
    repulsion_rtol: float
    """The error allowed to each row where the repulsion goes by Fourier sums."""

    def __call__(self, y: FloatArray) -> Evaluation:
        """Evaluate a map of shape (N, d); one that is not finite has no finite cost."""
        y = np.ascontiguousarray(y, dtype=np.float64)
        if not np.all(np.isfinite(y)):
            return Evaluation(np.nan, np.full(y.shape, np.nan), np.full(len(y), np.nan))
        shared = self.executor.broadcast(y, len(self.shards) + 1)
        # Started before the attraction: its longest task must not come last.
        finish_repulsion = start_repulsion(
            self.executor, y, shared, self.shard_rows, self.repulsion, self.repulsion_rtol
        )
        pulls = self.executor.map(_attract, self.shards, shared)
        whole = self.executor.reduce(_put_together, [finish_repulsion(), *pulls])
        energy, gradient, log_z = self.executor.result(whole)
        return Evaluation(float(energy + np.sum(log_z) - self.entropy), gradient, log_z)

    def attraction(self, v: FloatArray) -> FloatArray:
        """Return diag(S 1) V - S V, shape (N, k): the attraction's Laplacian times k columns."""
        v = np.ascontiguousarray(v, dtype=np.float64)
        shared = self.executor.broadcast(v, len(self.shards))
        parts = self.executor.map(_attract, self.shards, shared)
        return np.concatenate([self.executor.result(part)[0] for part in parts])

    def degrees(self) -> FloatArray:
        """Return S 1, shape (N,)."""
        parts = self.executor.map(_degrees, self.shards)
        return np.concatenate([self.executor.result(part) for part in parts])


def _degrees(shard: Shard) -> FloatArray:
    first = shard.rows.start
    out = np.zeros(shard.rows.stop - first)
    for block in shard.blocks():
        block.add_degrees(out[block.rows.start - first : block.rows.stop - first])
    return out


def _put_together(
    parts: Sequence[tuple[FloatArray, FloatArray]],
) -> tuple[float, FloatArray, FloatArray]:
    """Return the attraction's energy, the gradient and log Z from a push and all pulls."""
    (push, log_z), *pulls = parts
    force, energy = stack_rows(pulls)
    return float(0.5 * np.sum(energy)), 2.0 * (force - push), log_z


def _attract(shard: Shard, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    columns = np.ascontiguousarray(y.T)
    first = shard.rows.start
    force = np.zeros((shard.rows.stop - first, y.shape[1]))
    energy = np.zeros(len(force))
    for block in shard.blocks():
        at = slice(block.rows.start - first, block.rows.stop - first)
        block.attract(columns, force[at], energy[at])
    return force, energy

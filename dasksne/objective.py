"""One evaluation of the cost and its gradient, as a map over shards and a sum on the driver.

A task returns its own rows only. The attraction needs S, shard by shard; the repulsion needs
nothing but the map: first the normalisers of all rows, then their forces.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dasksne.executor import Executor, Handle
from dasksne.kernels import repulsion as direct
from dasksne.kernels.attraction import attraction
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

    def __call__(self, y: FloatArray) -> Evaluation:
        """Evaluate a map of shape (N, d)."""
        y = np.ascontiguousarray(y, dtype=np.float64)
        result = self.executor.result
        shared = self.executor.broadcast(y)
        pulls = self.executor.map(_attract, self.shards, shared)
        log_z = log_normalisers(self.executor, self.shard_rows, shared)
        shared_log_z = self.executor.broadcast(log_z)
        pushes = self.executor.map(_repel, self.shard_rows, shared, shared_log_z)
        pulled = [result(part) for part in pulls]
        force = np.concatenate([part[0] for part in pulled])
        energy = np.concatenate([part[1] for part in pulled])
        push = np.concatenate([result(part) for part in pushes])
        cost = 0.5 * np.sum(energy) + np.sum(log_z) - self.entropy
        return Evaluation(float(cost), 2.0 * (force - push), log_z)

    def attraction(self, v: FloatArray) -> FloatArray:
        """Return diag(S 1) V - S V, shape (N, k): the attraction's Laplacian times k columns."""
        shared = self.executor.broadcast(np.ascontiguousarray(v, dtype=np.float64))
        parts = self.executor.map(_attract, self.shards, shared)
        return np.concatenate([self.executor.result(part)[0] for part in parts])


def log_normalisers(executor: Executor, rows: Sequence[slice], y: Handle) -> FloatArray:
    """Return log Z_i of all rows of a map, shape (N,)."""
    parts = executor.map(_log_normalisers, rows, y)
    return np.concatenate([executor.result(part) for part in parts])


def _attract(shard: Shard, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    columns = np.ascontiguousarray(y.T)
    first = shard.rows.start
    force = np.zeros((shard.rows.stop - first, y.shape[1]))
    energy = np.zeros(len(force))
    for block in shard.blocks():
        at = slice(block.rows.start - first, block.rows.stop - first)
        attraction(block.joint, y[block.rows], columns[:, block.columns], force[at], energy[at])
    return force, energy


def _log_normalisers(rows: slice, y: FloatArray) -> FloatArray:
    return direct.log_normalisers(np.ascontiguousarray(y.T), rows)


def _repel(rows: slice, y: FloatArray, log_z: FloatArray) -> FloatArray:
    return direct.repulsion(np.ascontiguousarray(y.T), log_z, rows)

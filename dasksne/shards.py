"""The rows of S = P + P^T that are made, and kept, together, wherever that is.

Points i and j that count c_i and c_j times have as many copies, and S_ij is the sum over pairs of
them, c_i c_j (p_{j|i} + p_{i|j}).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from dasksne.kernels.attraction import Places, attraction, sparse_attraction
from dasksne.kernels.calibration import Calibration
from dasksne.kernels.probabilities import append_joint, joint_probabilities
from dasksne.run import Run
from dasksne.slices import consecutive
from dasksne.source import TILE_COLUMNS, TILE_ROWS, Source, row_panels
from dasksne.sparse import read_sparse
from dasksne.types import FloatArray, IntArray


class Block(Protocol):
    """Some rows of S, or columns of them."""

    @property
    def rows(self) -> slice:
        """Which rows."""
        ...

    def attract(self, y: Places, force: FloatArray) -> None:
        """Add the attraction of a map to the force on its rows."""
        ...

    def add_degrees(self, out: FloatArray) -> None:
        """Add the sums of its rows to out."""
        ...


class DenseBlock(NamedTuple):
    """Every entry of some rows and columns."""

    rows: slice
    columns: slice
    joint: FloatArray

    def attract(self, y: Places, force: FloatArray) -> None:
        """Add the attraction; see `Block`."""
        y_rows = np.ascontiguousarray(y.columns[:, self.rows].T)
        attraction(self.joint, y_rows, y.columns, self.columns, force)

    def add_degrees(self, out: FloatArray) -> None:
        """Add the sums of the rows; see `Block`."""
        out += np.sum(self.joint, axis=1, dtype=np.float64)


class SparseBlock(NamedTuple):
    """The entries that are kept of some rows, as a CSR matrix."""

    rows: slice
    data: FloatArray
    indices: IntArray
    indptr: IntArray

    def attract(self, y: Places, force: FloatArray) -> None:
        """Add the attraction; see `Block`."""
        sparse_attraction(self.data, self.indices, self.indptr, self.rows, y, force)

    def add_degrees(self, out: FloatArray) -> None:
        """Add the sums of the rows; see `Block`."""
        # No row is empty: each keeps the nearest point.
        out += np.add.reduceat(self.data, self.indptr[:-1], dtype=np.float64)


class Shard(Protocol):
    """Some rows of S; a task of a gradient step has one shard, or some of one worker."""

    @property
    def rows(self) -> slice:
        """Which rows."""
        ...

    def blocks(self) -> Iterator[Block]:
        """Yield S in blocks, each row's columns in order."""
        ...


@dataclass(frozen=True)
class HeldShard:
    """Rows of S in memory."""

    rows: slice
    held: tuple["DenseBlock | SparseBlock", ...]

    def __sizeof__(self) -> int:
        # Dask asks, and brings the shard to a task, not the task to the shard, if it seems small.
        arrays = [part for block in self.held for part in block if isinstance(part, np.ndarray)]
        return object.__sizeof__(self) + sum(array.nbytes for array in arrays)

    def blocks(self) -> Iterator[Block]:
        """Yield what is held."""
        yield from self.held


@dataclass(frozen=True)
class StoredShard:
    """Rows of S in the run, of which so many are read at once."""

    rows: slice
    run: Run
    name: str
    """Of S."""
    step: int
    sparse: bool

    def blocks(self) -> Iterator[Block]:
        """Yield row blocks as they are read."""
        for rows in self.row_blocks():
            if self.sparse:
                yield SparseBlock(rows, *read_sparse(self.run, self.name, rows.start))
            else:
                joint = self.run.read_whole(self.name, rows)
                yield DenseBlock(rows, slice(0, joint.shape[1]), joint)

    def row_blocks(self) -> Iterator[slice]:
        """Yield the row blocks of the shard."""
        yield from consecutive(self.rows, self.step)


@dataclass(frozen=True)
class ComputedShard:
    """Rows of S computed from distances whenever they are asked for."""

    rows: slice
    source: Source
    calibration: Calibration

    def blocks(self) -> Iterator[DenseBlock]:
        """Yield tiles as they are computed; each reuses the memory of the one before."""
        buffer = np.empty(TILE_ROWS * TILE_COLUMNS)
        for rows in row_panels(self.rows):
            for tile in self.source.tiles(rows):
                joint = buffer[: tile.distances.size].reshape(tile.distances.shape)
                pair = (tile.distances, tile.distances_back)
                joint_probabilities(*pair, rows, tile.columns, self.calibration, joint)
                if self.source.counts is not None:
                    joint *= np.outer(self.source.counts[rows], self.source.counts[tile.columns])
                yield DenseBlock(rows, tile.columns, joint)

    def sparse_blocks(self, dtype: str) -> Iterator[SparseBlock]:
        """Yield the entries that are kept, a panel of rows at a time."""
        n = self.source.n_points
        column, value = np.empty((TILE_ROWS, n), dtype=np.int32), np.empty((TILE_ROWS, n))
        for rows in row_panels(self.rows):
            counts = np.zeros(rows.stop - rows.start, dtype=np.int64)
            for tile in self.source.tiles(rows):
                pair = (tile.distances, tile.distances_back)
                append_joint(*pair, rows, tile.columns, self.calibration, column, value, counts)
            data = np.concatenate([row[:m] for row, m in zip(value, counts, strict=False)])
            indices = np.concatenate([row[:m] for row, m in zip(column, counts, strict=False)])
            indptr = np.concatenate([[0], np.cumsum(counts)])
            yield SparseBlock(rows, data.astype(dtype), indices, indptr)


def dense_rows(rows: slice, source: Source, calibration: Calibration, dtype: str) -> FloatArray:
    """Return every entry of some rows of S, shape (rows, N)."""
    out = np.empty((rows.stop - rows.start, source.n_points), dtype=dtype)
    for block in ComputedShard(rows, source, calibration).blocks():
        at = slice(block.rows.start - rows.start, block.rows.stop - rows.start)
        out[at, block.columns] = block.joint
    return out


def sparse_rows(rows: slice, source: Source, calibration: Calibration, dtype: str) -> SparseBlock:
    """Return the entries that are kept of some rows of S."""
    panels = list(ComputedShard(rows, source, calibration).sparse_blocks(dtype))
    ends = np.cumsum([panel.data.size for panel in panels])
    starts = [
        panel.indptr[:-1] + end - panel.data.size for panel, end in zip(panels, ends, strict=True)
    ]
    return SparseBlock(
        rows,
        np.concatenate([panel.data for panel in panels]),
        np.concatenate([panel.indices for panel in panels]),
        np.concatenate([*starts, ends[-1:]]),
    )

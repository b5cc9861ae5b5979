"""The rows of S = P + P^T that one task of a gradient step works on, wherever they are kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from dasksne.kernels.calibration import Calibration
from dasksne.kernels.probabilities import joint_probabilities
from dasksne.run import Run
from dasksne.source import TILE_COLUMNS, TILE_ROWS, Source, row_panels
from dasksne.types import FloatArray


class Block(NamedTuple):
    """Columns of some rows of S."""

    rows: slice
    columns: slice
    joint: FloatArray


class Shard(Protocol):
    """The rows of S that one task of a gradient step works on."""

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
    joint: FloatArray

    def blocks(self) -> Iterator[Block]:
        """Yield the rows whole."""
        yield Block(self.rows, slice(0, self.joint.shape[1]), self.joint)


@dataclass(frozen=True)
class StoredShard:
    """Rows of S in the run, read a row block at a time."""

    rows: slice
    run: Run
    block_rows: int

    def blocks(self) -> Iterator[Block]:
        """Yield row blocks as they are read."""
        array = self.run.array("S")
        for start in range(self.rows.start, self.rows.stop, self.block_rows):
            rows = slice(start, min(start + self.block_rows, self.rows.stop))
            yield Block(rows, slice(0, array.shape[1]), np.asarray(array[rows]))


@dataclass(frozen=True)
class ComputedShard:
    """Rows of S computed from distances whenever they are asked for."""

    rows: slice
    source: Source
    calibration: Calibration

    def blocks(self) -> Iterator[Block]:
        """Yield tiles as they are computed; each reuses the memory of the one before."""
        buffer = np.empty(TILE_ROWS * TILE_COLUMNS)
        for rows in row_panels(self.rows):
            for tile in self.source.tiles(rows):
                joint = buffer[: tile.distances.size].reshape(tile.distances.shape)
                joint_probabilities(
                    tile.distances,
                    tile.distances_back,
                    rows,
                    tile.columns,
                    self.calibration.precision,
                    self.calibration.log_normaliser,
                    joint,
                )
                yield Block(rows, tile.columns, joint)

"""What is given for each pair of points in place of their features: distances, or affinities."""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, issparse
from scipy.special import entr

from dasksne.kernels.calibration import Calibration
from dasksne.kernels.joining import SparseRows
from dasksne.slices import consecutive
from dasksne.source import TILE_COLUMNS, ArrayRows, Directions, Features, Rows, Source, Tile
from dasksne.types import FloatArray, IntArray

FAR = 1e6
"""In place of -log 0: so far off, exp(-FAR) is 0 at any scale, and multiples of FAR are numbers."""


@dataclass(frozen=True)
class GivenPairs:
    """Numbers for all pairs of points, read as squared distances; d_ij need not equal d_ji."""

    x: Rows
    """Of shape (N, N)."""
    counts: FloatArray | None = field(default=None, kw_only=True)
    """How often each point counts."""

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + sys.getsizeof(self.x) + sys.getsizeof(self.counts)

    @property
    def n_points(self) -> int:
        """N."""
        return self.x.shape[0]

    def panel(self, rows: slice, out: FloatArray | None = None) -> FloatArray:
        """Return the squared distances from rows to all points."""
        found = self._block(rows, slice(0, self.n_points))
        if out is None:
            return found
        out[...] = found
        return out

    def tiles(self, rows: slice) -> Iterator[Tile]:
        """Yield tiles over all columns."""
        for columns in consecutive(slice(0, self.n_points), TILE_COLUMNS):
            back = np.ascontiguousarray(self._block(columns, rows).T)
            yield Tile(columns, self._block(rows, columns), back)

    def _block(self, rows: slice, columns: slice) -> FloatArray:
        raise NotImplementedError


@dataclass(frozen=True)
class Precomputed(GivenPairs):
    """Squares of given distances, not squared, divided by 2**exponent first."""

    exponent: int = 0

    def _block(self, rows: slice, columns: slice) -> FloatArray:
        return np.square(np.ldexp(self.x.block(rows, columns), -self.exponent))


@dataclass(frozen=True)
class GivenAffinities(GivenPairs):
    """P itself, up to a factor for each row: -log of it is what beta_i d_ij is for distances.

    So P, and all that follows from it, is made as ever, at precision one.
    """

    log2_largest: int = 0
    """No affinity is above 2**log2_largest, which is at distance 0."""
    exponent: ClassVar[int] = 0
    """A logarithm has no unit."""

    def _block(self, rows: slice, columns: slice) -> FloatArray:
        affinities = self.x.block(rows, columns)
        there = affinities > 0.0
        out = np.full(affinities.shape, FAR)
        np.log(affinities, where=there, out=out)
        np.subtract(self._log_largest, out, where=there, out=out)
        np.maximum(out, 0.0, out=out)
        return out

    @property
    def _log_largest(self) -> float:
        return self.log2_largest * math.log(2.0)


@dataclass(frozen=True)
class SparseAffinities(GivenAffinities):
    """Affinities few of which are not zero: they cost what these few cost, not what N^2 does."""

    @property
    def _graph(self) -> csr_array:
        return cast("csr_array", cast("ArrayRows", self.x).array)

    @property
    def kept_share(self) -> float:
        """Of the entries of P."""
        return float(self._graph.nnz / (self.n_points * (self.n_points - 1.0)))

    def calibrate(self, rows: slice) -> Calibration:
        """Return what is kept of some rows, as the panel of their logarithms gives it."""
        p, largest, total, counts = self._normalised(rows)
        starts = np.cumsum(counts) - counts
        one = np.ones(counts.size)
        return Calibration(
            precision=one,
            nearest=self._log_largest - np.log(largest),
            log_normaliser=np.log(total),
            entropy=np.add.reduceat(entr(p), starts),
            cutoff=np.full_like(one, np.inf),
            dropped=np.zeros_like(one),
            kept=counts.astype(np.float64),
        )

    def probabilities(self) -> SparseRows:
        """Return the entries of P that are not zero."""
        p, _, _, counts = self._normalised(slice(0, self.n_points))
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return SparseRows(p, self._graph.indices.astype(np.int32, copy=False), indptr)

    def _normalised(self, rows: slice) -> tuple[FloatArray, FloatArray, FloatArray, IntArray]:
        """Return entries of rows of P, the rows' largest affinities, their sums relative to those.

        And how many entries each row has.
        """
        graph = self._graph
        indptr = graph.indptr[rows.start : rows.stop + 1].astype(np.int64)
        counts, starts = np.diff(indptr), indptr[:-1] - indptr[0]
        affinities = graph.data[indptr[0] : indptr[-1]]
        # Relative to the largest of the row first: a sum of the smallest numbers is none.
        largest = np.maximum.reduceat(affinities, starts)
        p = affinities / np.repeat(largest, counts)
        total = np.add.reduceat(p, starts)
        p /= np.repeat(total, counts)
        return p, largest, total, counts


KINDS: dict[str, Callable[..., Source]] = {
    "euclidean": Features,
    "cosine": Directions,
    "precomputed": Precomputed,
    "affinities": GivenAffinities,
}


def source_of(rows: Rows, exponent: int, metric: str, counts: FloatArray | None = None) -> Source:
    """Return the source of a metric, of values up to 2**exponent or divided by that."""
    if metric == "affinities" and isinstance(rows, ArrayRows) and issparse(rows.array):
        return SparseAffinities(rows, exponent)
    return KINDS[metric](rows, exponent, counts=counts)


@dataclass(frozen=True)
class GivenDistances:
    """The squares of the distances that points of their own come as, in the units of the run."""

    exponent: int
    counts: FloatArray | None = None
    fitted: npt.NDArray[np.bool_] | None = None
    """Which of the points that distances come to were fitted; None where all."""

    def panel_of(self, values: FloatArray) -> FloatArray:
        """Return the squares of distances to all fitted points, (r, N)."""
        if self.fitted is not None:
            values = np.ascontiguousarray(values[:, self.fitted])
        return np.square(np.ldexp(values, -self.exponent))

"""The data, as squared distances between any rows; the only reader of X."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from mmap import mmap
from threading import Lock
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
import zarr
from fsspec.core import url_to_fs
from scipy.sparse import csr_array, issparse

from dasksne.damage import is_fill, reading
from dasksne.errors import DamageError
from dasksne.kernels.distances import directions, squared_distances
from dasksne.slices import consecutive
from dasksne.types import FloatArray

CHUNK_BYTES = 4 << 20
"""Of X as float64, read at once."""
KEPT_BYTES = 256 << 20
"""Of a stored X, kept in each process where no plan says how much."""
PLACED = {"X", "embedding"}
"""The arrays of a run that are read at once: new points are placed by both."""
TILE_ROWS = 64
TILE_COLUMNS = 1024
"""A tile of distances, half a mebibyte: it stays in the second-level cache while it is used."""


class Rows(Protocol):
    """Anything that gives rows of X as float64."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        ...

    def read(self, rows: slice) -> FloatArray:
        """Return rows as a C-contiguous float64 array; not to be changed."""
        ...

    def block(self, rows: slice, columns: slice) -> FloatArray:
        """Return some columns of some rows, as float64."""
        ...


@dataclass(frozen=True)
class ArrayRows:
    """Rows of an array in memory; a sparse one becomes dense chunk by chunk."""

    array: Any

    def __sizeof__(self) -> int:
        # Dask asks, to decide how a value travels, and does not look inside.
        return object.__sizeof__(self) + bytes_of(self.array)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return self.array.shape  # type: ignore[no-any-return]

    def read(self, rows: slice) -> FloatArray:
        """Return rows as float64."""
        return np.ascontiguousarray(dense(self.array[rows]), dtype=np.float64)

    def block(self, rows: slice, columns: slice) -> FloatArray:
        """Return some columns of some rows."""
        return np.asarray(dense(self.array[rows, columns]), dtype=np.float64)


@dataclass(frozen=True)
class StoredRows:
    """Rows of a Zarr array, by URL, so that a task carries no data."""

    url: str
    path: str
    storage_options: tuple[tuple[str, Any], ...] = field(hash=False)  # may hold dicts
    shape: tuple[int, int]
    version: str
    """Changes when the array at the URL is replaced; what is kept is told apart by it."""
    kept_rows: int
    """From the first on, that each process keeps, in whole chunks. All are read in turn, again and
    again: to keep those read last would find none of them where not all are kept."""

    def read(self, rows: slice) -> FloatArray:
        """Return rows as float64, those that this process has kept if it has."""
        chunks = chunks_of(rows, *self.shape)
        if chunks[-1].stop > self.kept_rows:
            return self._read(rows)
        parts = [
            self._kept(chunk)[max(rows.start - chunk.start, 0) : rows.stop - chunk.start]
            for chunk in chunks
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _kept(self, chunk: slice) -> FloatArray:
        kept = _kept_rows(self)
        found = kept.get(chunk.start)
        if found is None:
            found = kept[chunk.start] = self._read(chunk)
        return found

    def _read(self, rows: slice) -> FloatArray:
        values = np.ascontiguousarray(self._stored(rows), dtype=np.float64)
        values.flags.writeable = False
        return values

    def block(self, rows: slice, columns: slice) -> FloatArray:
        """Return some columns of some rows."""
        return np.asarray(self._stored(rows, columns), dtype=np.float64)

    def _stored(self, rows: slice, columns: slice = slice(None)) -> npt.NDArray[Any]:
        """Return values as they are stored; raise DamageError where a chunk is missing."""
        what = f"{self.path} of {self.url}"
        with reading(what):
            array = self.open()
            values = np.asarray(array[rows, columns])
            suspects = _suspects(values, (rows, columns), array.chunks)
            missing = not all(self._has_chunk(*at) for at in suspects)
        if missing:
            raise DamageError(f"{what}: a chunk is missing")
        return values

    def _has_chunk(self, row: int, column: int) -> bool:
        files, root = url_to_fs(self.url, **dict(self.storage_options))
        return bool(files.exists(f"{root}/{self.path}/c/{row}/{column}"))

    def open(self) -> "zarr.Array[Any]":
        """Open the array."""
        options = {"storage_options": dict(self.storage_options)} if self.storage_options else {}
        return zarr.open_array(self.url, path=self.path, mode="r", **options)  # type: ignore[arg-type]


_kept: dict[StoredRows, dict[int, FloatArray]] = {}
"""What this process keeps of stored arrays: chunks, by their first rows."""
_keeping = Lock()


def _kept_rows(stored: StoredRows) -> dict[int, FloatArray]:
    """Return the chunks that this process keeps of an array.

    Those of others go, but for the map that goes with an X: a plan counts on no memory that an
    earlier run, or X before it was prepared, would still take on a worker.
    """
    with _keeping:
        if stored not in _kept:
            for other in list(_kept):
                if other.version != stored.version or {other.path, stored.path} != PLACED:
                    del _kept[other]
            _kept[stored] = {}
        return _kept[stored]


def forget_rows() -> None:
    """Let go of the rows of stored arrays that this process keeps."""
    with _keeping:
        _kept.clear()


def _suspects(
    values: npt.NDArray[Any], where: tuple[slice, slice], chunks: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Return which chunks begin as missing ones do, in what was read of them; others may, too."""
    starts = [part.start or 0 for part in where]
    begins = [
        [0, *range(step - start % step, size, step)]
        for start, size, step in zip(starts, values.shape, chunks, strict=True)
    ]
    filled = np.argwhere(is_fill(values[np.ix_(*begins)]))
    first_row, first_column = (start // step for start, step in zip(starts, chunks, strict=True))
    return [(first_row + i, first_column + j) for i, j in filled.tolist()]


class Tile(NamedTuple):
    """Squared distances from some rows to some columns."""

    columns: slice
    distances: FloatArray
    """d_ij, shape (r, c)."""
    distances_back: FloatArray
    """d_ji, shape (r, c); the same array where distances are symmetric."""


class Source(Protocol):
    """Squared distances between data points, and how often each counts; picklable."""

    @property
    def exponent(self) -> int:
        """Of the power of two that the data was divided by."""
        ...

    @property
    def n_points(self) -> int:
        """N."""
        ...

    @property
    def counts(self) -> FloatArray | None:
        """How often each point counts, 1 or more, shape (N,); None where each counts once."""
        ...

    def panel(self, rows: slice, out: FloatArray | None = None) -> FloatArray:
        """Return the squared distances from rows to all points, shape (r, N), in out if given."""
        ...

    def tiles(self, rows: slice) -> Iterator[Tile]:
        """Yield tiles over all columns in order; each may reuse the memory of the one before."""
        ...


@dataclass(frozen=True)
class Features:
    """Squared Euclidean distances between rows of X.

    X is read divided by 2**exponent, exactly, so that squares of values far from one neither
    overflow nor vanish.
    """

    x: Rows
    exponent: int = 0
    counts: FloatArray | None = None

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + sys.getsizeof(self.x) + sys.getsizeof(self.counts)

    @property
    def n_points(self) -> int:
        """N."""
        return self.x.shape[0]

    def read(self, rows: slice) -> FloatArray:
        """Return rows of X, scaled."""
        values = self.x.read(rows)
        return np.ldexp(values, -self.exponent) if self.exponent else values

    def panel(self, rows: slice, out: FloatArray | None = None) -> FloatArray:
        """Return the squared distances from rows to all points."""
        return self._panel(self.read(rows), out)

    def panel_of(self, values: FloatArray) -> FloatArray:
        """Return the squared distances from points of their own, (r, D), to all points."""
        return self._panel(np.ldexp(values, -self.exponent))

    def _panel(self, x_rows: FloatArray, out: FloatArray | None = None) -> FloatArray:
        if out is None:
            out = np.empty((len(x_rows), self.n_points))
        for chunk in row_chunks(*self.x.shape):
            squared_distances(x_rows, self.read(chunk), out, chunk.start)
        return out

    def tiles(self, rows: slice) -> Iterator[Tile]:
        """Yield tiles over all columns."""
        x_rows = self.read(rows)
        n, n_features = self.x.shape
        buffer = np.empty(len(x_rows) * TILE_COLUMNS)
        # A chunk of short rows has several tiles; a tile of long rows, several chunks.
        for chunk in row_chunks(n, n_features):
            x_chunk = self.read(chunk)
            at = chunk.start
            while at < chunk.stop:
                first = at // TILE_COLUMNS * TILE_COLUMNS
                columns = slice(first, min(first + TILE_COLUMNS, n))
                stop = min(columns.stop, chunk.stop)
                tile = buffer[: len(x_rows) * (columns.stop - first)].reshape(len(x_rows), -1)
                part = x_chunk[at - chunk.start : stop - chunk.start]
                squared_distances(x_rows, part, tile, at - first)
                if stop == columns.stop:
                    yield Tile(columns, tile, tile)
                at = stop


@dataclass(frozen=True)
class Directions(Features):
    """Squared Euclidean distances between the directions of rows of X: 2 - 2 cos of their angle.

    Of rows of length one, made as they are read: the way of `Features`, at its speed.
    """

    def read(self, rows: slice) -> FloatArray:
        """Return the directions of rows of X."""
        return directions(super().read(rows))

    def panel_of(self, values: FloatArray) -> FloatArray:
        """Return the squared distances from the directions of points of their own, (r, D)."""
        return self._panel(directions(values))


class Reference(Protocol):
    """What points of their own are measured against; picklable."""

    @property
    def counts(self) -> FloatArray | None:
        """As of a `Source`."""
        ...

    def panel_of(self, values: FloatArray) -> FloatArray:
        """Return squared distances to all points, shape (r, N)."""
        ...


def dense(values: Any) -> Any:
    """Return a sparse array, or a lazy one, as a dense one of NumPy."""
    return cast("csr_array", values).toarray() if issparse(values) else np.asarray(values)


def bytes_of(array: Any) -> int:
    """Return what an array takes in memory, also a sparse one in rows, CSR."""
    if not issparse(array):
        return int(array.nbytes)
    rows = cast("csr_array", array)
    return int(rows.data.nbytes + rows.indices.nbytes + rows.indptr.nbytes)


def is_mapped(array: Any) -> bool:
    """Say whether an array's values are in a file, and not in memory before they are read."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap)


def row_chunks(n_points: int, n_features: int) -> list[slice]:
    """Return the slices of rows in which X is stored and read: whole tiles unless rows are long."""
    return consecutive(slice(0, n_points), _chunk_rows(n_features))


def chunks_of(rows: slice, n_points: int, n_features: int) -> list[slice]:
    """Return those of `row_chunks` that some rows are in."""
    step = _chunk_rows(n_features)
    first, last = rows.start // step * step, -(-rows.stop // step) * step
    return consecutive(slice(first, min(last, n_points)), step)


def _chunk_rows(n_features: int) -> int:
    rows = CHUNK_BYTES // (8 * n_features)
    return rows // TILE_COLUMNS * TILE_COLUMNS or max(TILE_ROWS, rows // TILE_ROWS * TILE_ROWS)


def row_panels(rows: slice) -> list[slice]:
    """Return the slices of a block's rows that are worked on at once."""
    return consecutive(rows, TILE_ROWS)

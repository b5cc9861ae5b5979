"""Tiles over a map: each so small that a Fourier grid of modest size carries its Gaussian sums.

Points act from their own tile on every point within reach of it; further off the Gaussian is below
the error of a sum. Without tiles two clusters far apart would need a grid over all the empty plane
between them.
"""

import itertools
import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from dasksne.types import FloatArray

Members: TypeAlias = list[tuple[int, slice | npt.NDArray[np.int64]]]
"""Pairs of a tile and the points that belong to it."""

SMALLEST_EPS = 1e-14
SMALLEST_EPS_RTOL = 1e-8
"""At which a map of 70,000 points, whose normalisers are 5 and more, has no isolated row."""
EPS_POWER = 2 / 3
"""Of a looser tolerance, what goes into cheaper sums; the rest makes fewer rows isolated."""

SIDES = (256.0, 128.0, 64.0, 32.0, 16.0)
"""Largest sides tried. Half of the smallest exceeds any reach: points act on adjoining tiles only.
"""

MOST_CELLS = 2**20
"""Along an axis: where a tile lies is then known to 1e-7, and positions fit in an int64."""

COUNTED_CELLS_PER_POINT = 8

# Nanoseconds on one core of a current server, by d = 1, 2, 3: they choose, they are not measured
# again, so that the same map always goes the same way.
NS_PER_PAIR = 2.0
NS_PER_MODE = (60.0, 300.0, 1000.0)
NS_PER_TARGET = (150.0, 650.0, 27000.0)
NS_PER_TILE = 3e5

FEWEST_GRID_BYTES = (2**26, 2**26, 2**29)
GRID_BYTES_PER_POINT = (64, 512, 4096)
"""More than a filled map with Z = 5 in every row needs, by d = 1, 2, 3."""


class Tiling(NamedTuple):
    """Equal tiles, only those that hold points; a value that travels to every task."""

    origin: FloatArray
    """The map's lowest corner, shape (d,)."""
    side: FloatArray
    """Of a tile, shape (d,)."""
    cells: npt.NDArray[np.int64]
    """Tiles along each axis, empty ones included, shape (d,)."""
    occupied: npt.NDArray[np.int64]
    """Positions, counted along the last axis first, of the tiles that hold points, shape (T,)."""
    points: npt.NDArray[np.int64]
    """How many points each of them holds, shape (T,)."""
    eps: float
    """Error of a Gaussian sum, relative to the sum of the weights."""

    @property
    def reach(self) -> float:
        """exp(-reach^2) = eps; so is the transform exp(-k^2 / 4) at k = 2 reach."""
        return math.sqrt(-math.log(self.eps))

    @property
    def period(self) -> FloatArray:
        """Of the Fourier series, shape (d,): images of a source stay a reach away from targets."""
        period: FloatArray = self.side + 2.0 * self.reach
        return period

    @property
    def modes(self) -> tuple[int, ...]:
        """Of one tile along each axis, odd: 0, +-1, ... up to the wave number 2 reach."""
        highest = np.ceil(self.reach * self.period / math.pi).astype(np.int64)
        return tuple(int(m) for m in 2 * highest + 1)

    @property
    def grid_bytes(self) -> int:
        """The most that grids take in one process at any time.

        The modes of all tiles twice (a sum takes two), and for the tile worked on four arrays of
        modes and the fine grid, twice as fine along each axis and rounded up to a good FFT size.
        """
        tiles = 2 * self.occupied.size + _working_grids(len(self.modes))
        return 16 * math.prod(self.modes) * int(tiles)

    @property
    def nanoseconds(self) -> float:
        """What an evaluation with this tiling costs, by fixed constants."""
        d = len(self.modes)
        copies = np.where(self.cells > 1, self.period / np.maximum(self.side, self.reach), 1.0)
        n_targets = float(self.points.sum()) * float(copies.prod())
        per_tile = NS_PER_MODE[d - 1] * math.prod(self.modes) + NS_PER_TILE
        return per_tile * self.occupied.size + NS_PER_TARGET[d - 1] * n_targets

    def sources(self, y: FloatArray) -> Members:
        """Return the points that lie in each tile; y has shape (d, n)."""
        return self._members(y, [(0,) * y.shape[0]])

    def masses(self, y: FloatArray, counts: FloatArray) -> FloatArray:
        """Return how often the points of each tile count together, shape (T,); y is all of it."""
        found = np.zeros(self.occupied.size)
        for tile, points in self.sources(y):
            found[tile] = np.sum(counts[points])
        return found

    def targets(self, y: FloatArray) -> Members:
        """Return the points within reach of each tile; y has shape (d, n)."""
        steps = [(-1, 0, 1) if count > 1 else (0,) for count in self.cells]
        return self._members(y, list(itertools.product(*steps)))

    def angles(self, tile: int, y: FloatArray) -> FloatArray:
        """Return y, shape (d, n), relative to a tile's centre with its period scaled to 2 pi."""
        cell = np.array(np.unravel_index(self.occupied[tile], self.cells))
        centre = self.origin + (cell + 0.5) * self.side
        return np.ascontiguousarray((y - centre[:, None]) * (2.0 * math.pi / self.period)[:, None])

    def _members(self, y: FloatArray, steps: list[tuple[int, ...]]) -> Members:
        """Return the points of which a tile is one of the given steps away and within reach."""
        if self.occupied.size == 1:
            return [(0, slice(None))]
        cell = _cells(y, self.origin, self.side, self.cells)
        above = y - (self.origin[:, None] + cell * self.side[:, None])
        distance = {-1: above, 0: np.zeros_like(above), 1: self.side[:, None] - above}
        points, tiles = [], []
        for step in steps:
            near = np.all([distance[s][k] <= self.reach for k, s in enumerate(step)], axis=0)
            beside = cell + np.array(step)[:, None]
            near &= np.all((beside >= 0) & (beside < self.cells[:, None]), axis=0)
            point = np.flatnonzero(near)
            position = np.ravel_multi_index(tuple(beside[:, point]), tuple(self.cells))
            tile = np.searchsorted(self.occupied, position)
            tile[tile == self.occupied.size] = 0
            found = self.occupied[tile] == position
            points.append(point[found])
            tiles.append(tile[found])
        point, tile = np.concatenate(points), np.concatenate(tiles)
        order = np.argsort(tile, kind="stable")
        present, first = np.unique(tile[order], return_index=True)
        return list(zip(present.tolist(), np.split(point[order], first[1:]), strict=True))


def choose_tiling(y: FloatArray, rtol: float) -> Tiling | None:
    """Return the tiling with which the Fourier form costs least; None where all pairs cost less.

    Parameters
    ----------
    y : array of shape (d, N), float64
        The map, transposed; finite, d = 1, 2 or 3.
    rtol : float
        The error allowed to each row; see `fourier.repulsion_fourier`.
    """
    tiling = cheapest_tiling(y, rtol)
    pairs = NS_PER_PAIR * float(y.shape[1]) ** 2
    return tiling if tiling is not None and tiling.nanoseconds < pairs else None


def cheapest_tiling(y: FloatArray, rtol: float) -> Tiling | None:
    """Return the tiling that costs least; None where all exceed `most_grid_bytes`. As above."""
    eps = SMALLEST_EPS * max(1.0, rtol / SMALLEST_EPS_RTOL) ** EPS_POWER
    with np.errstate(over="ignore"):
        extent = np.max(np.ptp(y, axis=1))
    # Of all sides that hold the map in one tile the smallest will do.
    sides = [*(larger for larger, side in itertools.pairwise(SIDES) if extent > side), SIDES[-1]]
    candidates = [t for side in sides if (t := tiles_of_side(y, side, eps)) is not None]
    allowed = most_grid_bytes(y.shape[1], y.shape[0])
    fitting = [t for t in candidates if t.grid_bytes <= allowed]
    return min(fitting, key=lambda t: t.nanoseconds, default=None)


def most_grid_bytes(n_points: int, d: int) -> int:
    """Return the bound on the bytes of Fourier grids in one process, from sizes alone.

    A map whose grids would take more goes by all pairs.
    """
    return max(FEWEST_GRID_BYTES[d - 1], GRID_BYTES_PER_POINT[d - 1] * n_points)


def planned_grid_bytes(n_points: int, d: int) -> int:
    """Return the most that grids of any map take, as all pairs cost less than large ones do."""
    if d > len(NS_PER_MODE):
        return 0
    modes = NS_PER_PAIR * float(n_points) ** 2 / NS_PER_MODE[d - 1]
    return min(most_grid_bytes(n_points, d), int(16 * modes * (2 + _working_grids(d))))


def _working_grids(d: int) -> int:
    """Return how many arrays of modes a tile takes while it is worked on."""
    return 4 + math.ceil(1.2 * 2.0**d)


def tiles_of_side(y: FloatArray, largest_side: float, eps: float) -> Tiling | None:
    """Return the tiling with sides up to the given one; None for too vast a map."""
    origin = y.min(axis=1)
    with np.errstate(over="ignore"):
        extent = y.max(axis=1) - origin
        cells = np.maximum(1.0, np.ceil(extent / largest_side))
    if not cells.max() <= MOST_CELLS:
        return None
    count = cells.astype(np.int64)
    side = extent / count
    n_cells = math.prod(count.tolist())
    position = np.ravel_multi_index(tuple(_cells(y, origin, side, count)), tuple(count))
    if n_cells <= COUNTED_CELLS_PER_POINT * y.shape[1]:
        points = np.bincount(position, minlength=n_cells)
        occupied = np.flatnonzero(points)
        points = points[occupied]
    else:
        occupied, points = np.unique(position, return_counts=True)
    return Tiling(origin, side, count, occupied, points, eps)


def _cells(
    y: FloatArray, origin: FloatArray, side: FloatArray, count: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the tile of each point along each axis, shape (d, n)."""
    cell = np.zeros(y.shape, dtype=np.int64)
    for k in np.flatnonzero(count > 1):
        cell[k] = np.clip((y[k] - origin[k]) / side[k], 0, count[k] - 1)
    return cell

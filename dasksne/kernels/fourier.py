"""The repulsion as Gaussian sums by non-uniform FFTs: O(N), exact to a stated error in each row.

With K_ij = exp(-|y_i - y_j|^2), c_i how often each point counts, which is once as a rule, u = K c,
Z = u - 1, w = c / Z and v = K w,

    R_i = c_i sum_j c_j (q_{j|i} + q_{i|j}) (y_i - y_j) = -1/2 (w_i grad u_i + c_i grad v_i).

The Gaussian's transform falls off like a Gaussian, so each sum is: the points' Fourier modes up to
|k| = 2 `Tiling.reach` (`spread`; modes of row blocks add), times that transform (and i k for a
derivative), back at the points. A map over row blocks takes the phases one by one:

1. `choose_tiling`, from the map and the error allowed;
2. modes of the weights c: the sum of `spread` over the blocks;
3. `first_pass` of each block, with these modes;
4. modes of the weights w: the sum of `spread` over the blocks;
5. `second_pass` of each block, with these modes and the isolated rows of all blocks; where those
   are too many (`are_too_many`), all pairs in place of 4 and 5.

`repulsion_fourier` is these phases with one block. finufft (Barnett, Magland & af Klinteberg, SIAM
J. Sci. Comput. 41, 2019) runs on one thread.
"""

import math
from typing import TypeAlias

import finufft
import numpy as np
import numpy.typing as npt

from dasksne.kernels import repulsion as direct
from dasksne.kernels.isolated import IsolatedRows, add_reactions, isolated_rows
from dasksne.kernels.repulsion import FirstPass
from dasksne.kernels.tiling import Members, Tiling, choose_tiling
from dasksne.types import FloatArray

ComplexArray: TypeAlias = npt.NDArray[np.complex128]

MOST_ISOLATED = 0.25
"""Of all rows: a row by itself costs twice its share of all pairs, which are for several tasks."""
LARGEST_ERROR = 3.0
"""Of a Gaussian sum at any point, times `Tiling.eps` and the sum of the weights within reach."""


def repulsion_fourier(Y: FloatArray, rtol: float = 1e-8) -> tuple[FloatArray, FloatArray]:
    """Return the repulsion R and the log normalisers log Z of Q for one map.

    Parameters
    ----------
    Y : array of shape (N, d)
        The map, N >= 2, d = 1, 2 or 3. Where it is not finite, neither are the results.
    rtol : float
        The error allowed to each row: |dR_i| <= c rtol (1 + sum_j (q_{j|i} + q_{i|j}) |y_i - y_j|)
        with c of order one, and |d log Z_i| <= rtol.

    Returns
    -------
    R : array of shape (N, d)
        sum_j (q_{j|i} + q_{i|j}) (y_i - y_j).
    log_z : array of shape (N,)
        log sum_{j != i} exp(-|y_i - y_j|^2).

    Examples
    --------
    >>> import numpy as np
    >>> from dasksne.kernels.fourier import repulsion_fourier
    >>> R, log_z = repulsion_fourier(np.array([[0.0, 0.0], [3.0, 4.0]]))
    >>> R.round(12).tolist(), log_z.tolist()
    ([[-6.0, -8.0], [6.0, 8.0]], [-25.0, -25.0])
    """
    y = np.ascontiguousarray(Y.T, dtype=np.float64)
    n_points = y.shape[1]
    rows = slice(0, n_points)
    if not np.isfinite(y).all():
        return np.full(Y.shape, np.nan), np.full(n_points, np.nan)
    tiling = choose_tiling(y, rtol)
    found = None if tiling is None else repulsion_by(tiling, y, rtol)
    if found is None:
        all_rows = direct.first_pass(rows, y)
        return direct.second_pass(all_rows, y, all_rows.weights, all_rows.isolated), all_rows.log_z
    return found


def repulsion_by(
    tiling: Tiling, y: FloatArray, rtol: float, counts: FloatArray | None = None
) -> tuple[FloatArray, FloatArray] | None:
    """Return R, shape (N, d), and log Z of a whole map, shape (d, N), with a given tiling.

    None where too many rows are isolated.
    """
    rows = slice(0, y.shape[1])
    modes = spread(tiling, y, rows, np.ones(rows.stop) if counts is None else counts)
    first = first_pass(tiling, modes, y, rows, rtol, counts)
    if are_too_many(first.isolated, rows.stop):
        return None
    modes = spread(tiling, y, rows, first.weights)
    return second_pass(tiling, modes, y, first, first.isolated, counts), first.log_z


def are_too_many(isolated: IsolatedRows, n_points: int) -> bool:
    """Say whether all pairs cost less than isolated rows of a map, one by one."""
    return isolated.row.size > MOST_ISOLATED * n_points


def spread(tiling: Tiling, y: FloatArray, rows: slice, weights: FloatArray) -> ComplexArray:
    """Return the Fourier modes of some rows in each tile, shape (tiles, *tiling.modes).

    Parameters
    ----------
    tiling : Tiling
    y : array of shape (d, N), float64
        The map, transposed.
    rows : slice
    weights : array of shape (rows,), float64
        Of those rows.
    """
    own = y[:, rows]
    modes = np.zeros((tiling.occupied.size, *tiling.modes), dtype=np.complex128)
    plan = _plan(1, tiling, 1)
    for tile, points in tiling.sources(own):
        plan.setpts(*tiling.angles(tile, own[:, points]))
        plan.execute(weights[points].astype(np.complex128), out=modes[tile])
    return modes


def first_pass(
    tiling: Tiling,
    modes: ComplexArray,
    y: FloatArray,
    rows: slice,
    rtol: float = 1e-8,
    counts: FloatArray | None = None,
) -> FirstPass:
    """Return the normalisers of some rows, and the repulsion that each owes to its own q.

    Parameters
    ----------
    tiling, y, rows
        As for `spread`.
    modes : array of shape (tiles, *tiling.modes)
        Of all rows with weights c.
    rtol : float
        As for `repulsion_fourier`.
    counts : array of shape (N,), float64, optional
        c, how often each point counts; once unless given.

    Notes
    -----
    A row is isolated where the error of its sum could exceed rtol Z_i; it is summed over all points
    one by one. The error is bounded by the number of points in the tiles that act on the row.
    """
    own = y[:, rows]
    reached = tiling.targets(own)
    u, *gradient = _gaussian_sums(tiling, modes, own, reached, with_value=True)
    acting = np.zeros(own.shape[1])
    masses = tiling.points if counts is None else tiling.masses(y, counts)
    for tile, points in reached:
        acting[points] += masses[tile]
    z = u - 1.0
    trusted = z >= LARGEST_ERROR * tiling.eps / rtol * acting
    log_z = np.log(z, where=trusted, out=np.empty_like(z))
    times = 1.0 if counts is None else counts[rows]
    weights = np.divide(times, z, where=trusted, out=np.zeros_like(z))
    force = -0.5 * weights * np.array(gradient)
    alone = np.flatnonzero(~trusted)
    isolated, log_z[alone], force[:, alone] = isolated_rows(y, rows.start + alone, counts)
    return FirstPass(rows, log_z, weights, force, isolated)


def second_pass(
    tiling: Tiling,
    modes: ComplexArray,
    y: FloatArray,
    first: FirstPass,
    isolated: IsolatedRows,
    counts: FloatArray | None = None,
) -> FloatArray:
    """Return R_i of the rows of a first pass, shape (rows, d).

    Parameters
    ----------
    tiling, y
        As for `spread`.
    modes : array of shape (tiles, *tiling.modes)
        Of all rows with the weights of their first pass.
    first : FirstPass
    isolated : IsolatedRows
        Of the whole map.
    counts : array of shape (N,), float64, optional
        As for the first pass.
    """
    own = y[:, first.rows]
    gradient = _gaussian_sums(tiling, modes, own, tiling.targets(own), with_value=False)
    if counts is not None:
        gradient *= counts[first.rows]
    force = first.repulsion - 0.5 * gradient
    add_reactions(y, isolated, first.rows, force, counts)
    return np.ascontiguousarray(force.T)


def _gaussian_sums(
    tiling: Tiling, modes: ComplexArray, y: FloatArray, reached: Members, *, with_value: bool
) -> FloatArray:
    """Return (the sums and) their gradient at some points, shape (1 + d, n) or (d, n)."""
    d, n_points = y.shape
    sums = np.zeros((d + with_value, n_points))
    symbols = _symbols(tiling, with_value=with_value)
    plan = _plan(2, tiling, len(symbols))
    for tile, points in reached:
        plan.setpts(*tiling.angles(tile, y[:, points]))
        packed = plan.execute(symbols * modes[tile])
        for row, values in enumerate(np.atleast_2d(packed)):
            sums[2 * row, points] += values.real
            if 2 * row + 1 < len(sums):
                sums[2 * row + 1, points] += values.imag
    return sums


def _symbols(tiling: Tiling, *, with_value: bool) -> ComplexArray:
    """Return what turns modes of points into modes of the wanted sums, shape (n, *tiling.modes).

    That is the Gaussian's transform, times i k for the derivative along an axis. The sums are real,
    so two of them, a and b, go through one transform as a + i b.
    """
    d = len(tiling.modes)
    gaussian = np.ones((1,) * d)
    factors = [np.ones((1,) * d, dtype=np.complex128)] if with_value else []
    for k, (n_modes, period) in enumerate(zip(tiling.modes, tiling.period, strict=True)):
        wave = 2.0 * math.pi / period * np.arange(-(n_modes // 2), n_modes // 2 + 1)
        wave = wave.reshape([-1 if axis == k else 1 for axis in range(d)])
        gaussian = gaussian * (math.sqrt(math.pi) / period * np.exp(-0.25 * wave**2))
        factors.append(1j * wave)
    pairs = [factors[at : at + 2] for at in range(0, len(factors), 2)]
    return np.array([gaussian * (a + 1j * sum(b)) for a, *b in pairs])


def _plan(kind: int, tiling: Tiling, n_transforms: int) -> finufft.Plan:
    """Plan non-uniform FFTs of a tile: kind 1 from points to modes, 2 from modes to points."""
    sign = -1 if kind == 1 else 1
    return finufft.Plan(
        kind, tiling.modes, n_transforms, tiling.eps, sign, nthreads=1, upsampfac=2.0, showwarn=0
    )

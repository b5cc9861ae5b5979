"""SNE as its formulas say it: squared distances, P, Q, cost and gradient as lazy Dask arrays.

Every pair of points is looked at, so these arrays are for looking at a map, for composing with
other Dask work, and for holding faster code against. Calling a function here computes nothing.
Arrays of pairs come in row blocks: chunks of some rows and all N columns.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import dask.array as da
import numpy as np
import numpy.typing as npt
import zarr
from dask.array.core import normalize_chunks
from dask.base import is_dask_collection

from dasksne.errors import InvalidInputError
from dasksne.kernels import calibration, distances
from dasksne.settings import number_or_array, sigma_of
from dasksne.types import FloatArray

ArrayLike: TypeAlias = "npt.ArrayLike | da.Array | zarr.Array[Any]"
"""What is read as a matrix: a NumPy array (or what becomes one), a Dask array, a Zarr array."""

IntArray: TypeAlias = npt.NDArray[np.integer]

BLOCK_BYTES = 64 * 2**20
"""No row block of pairs and no block of points is larger, unless one row is."""

DEFAULT_PERPLEXITY = 30.0


def squared_distances(X: ArrayLike) -> da.Array:
    """Squared Euclidean distances between all points.

    Parameters
    ----------
    X : array of shape (N, D)
        N points, N at least 2; NumPy, Dask or Zarr. Real numbers of any type, taken as float64.

    Returns
    -------
    dask.array.Array of shape (N, N), float64
        d_ij = |x_i - x_j|^2, from differences of coordinates, in row blocks. They keep the height
        of X's chunks (of its tallest, where they differ), but none exceeds 64 MiB.

    Raises
    ------
    InvalidInputError
        X is not a matrix of real numbers, has one row or no column, is sparse, or is a Dask array
        of unknown chunk sizes.

    Examples
    --------
    >>> import dasksne
    >>> dasksne.squared_distances([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]]).compute()
    array([[ 0., 25., 16.],
           [25.,  0.,  9.],
           [16.,  9.,  0.]])
    """
    return _squared_distances(_points(X, "X"))


def conditional_probabilities(
    X: ArrayLike,
    *,
    perplexity: float | None = None,
    sigma: "float | npt.ArrayLike | None" = None,
    metric: Literal["euclidean", "cosine", "precomputed"] = "euclidean",
) -> da.Array:
    """Conditional probabilities P of the data: p_{j|i}, that i would pick j as its neighbour.

    Parameters
    ----------
    X : array of shape (N, D), or (N, N) where metric is "precomputed"
        N points, or the distances (not squared) between them; row i holds those from point i, and
        its diagonal is not read. NumPy, Dask or Zarr.
    perplexity : float, optional
        Above 1 and below N - 1. Each row's precision beta_i is found so that the entropy of the row
        is log(perplexity) nats. 30 unless `sigma` is given.
    sigma : float or array of shape (N,), optional
        The width of all rows, or of each, in the units of X: beta_i = 1 / sigma_i^2. Mind the
        convention: the weight of a pair is exp(-d^2 / sigma^2), not exp(-d^2 / (2 sigma^2)).
    metric : {"euclidean", "cosine", "precomputed"}
        Whether distances are measured between rows, between rows divided by their lengths, or
        given.

    Returns
    -------
    dask.array.Array of shape (N, N), float64
        p_{j|i} = exp(-beta_i d_ij) / sum_{k != i} exp(-beta_i d_ik) with d squared distances, and
        p_{i|i} = 0 [1]_, in row blocks as `squared_distances` has them. Rows sum to one.

    Raises
    ------
    InvalidInputError
        As `squared_distances`; also where both `perplexity` and `sigma` are given, where one of
        them is out of range, the metric is unknown, or precomputed distances are not square.

    Notes
    -----
    With a perplexity, P does not depend on the scale of X: values as large as 1e150 or as small as
    1e-150 are scaled before they are squared. Where `perplexity` or more points share the smallest
    distance of a row, no precision reaches it; the row is then uniform over those points.

    A NaN or an infinity in X makes NaN of what depends on it, as in NumPy.

    References
    ----------
    .. [1] G. Hinton and S. Roweis, "Stochastic Neighbor Embedding", NIPS 15, 2002.

    Examples
    --------
    >>> import dasksne
    >>> P = dasksne.conditional_probabilities([[0.0], [1.0], [2.0]], sigma=1.0)
    >>> P.compute().round(4)
    array([[0.    , 0.9526, 0.0474],
           [0.5   , 0.    , 0.5   ],
           [0.0474, 0.9526, 0.    ]])
    """
    sigma = number_or_array(sigma)
    if perplexity is not None and sigma is not None:
        given = "an array" if np.ndim(sigma) else repr(sigma)
        raise InvalidInputError(
            f"perplexity={perplexity!r} and sigma={given} were both given; give one of them"
        )
    if sigma is not None:
        return _with_sigma(_squared(X, metric, rescale=False), sigma)
    perplexity = DEFAULT_PERPLEXITY if perplexity is None else perplexity
    return _with_perplexity(_squared(X, metric, rescale=True), perplexity)


def embedding_probabilities(Y: ArrayLike) -> da.Array:
    """Conditional probabilities Q of a map: the formula of P with a width of one.

    Parameters
    ----------
    Y : array of shape (N, d)
        The positions of N points in the map; NumPy, Dask or Zarr.

    Returns
    -------
    dask.array.Array of shape (N, N), float64
        q_{j|i} = exp(-|y_i - y_j|^2) / sum_{k != i} exp(-|y_i - y_k|^2), q_{i|i} = 0, in row blocks
        as `squared_distances` has them. An isolated point's row still sums to one.

    Raises
    ------
    InvalidInputError
        As `squared_distances`.

    Examples
    --------
    >>> import dasksne
    >>> dasksne.embedding_probabilities([[0.0], [0.0], [1000.0]]).compute()
    array([[0. , 1. , 0. ],
           [1. , 0. , 0. ],
           [0.5, 0.5, 0. ]])
    """
    return _with_sigma(_squared_distances(_points(Y, "Y")), 1.0)


def kl_divergence(P: ArrayLike, Q: ArrayLike) -> da.Array:
    """Cost of a map: the Kullback-Leibler divergences of Q's rows from P's, summed.

    Parameters
    ----------
    P, Q : arrays of shape (N, N)
        Conditional probabilities of the data and of the map; NumPy, Dask or Zarr.

    Returns
    -------
    dask.array.Array of shape (), float64
        C = sum_i sum_j p_{j|i} log(p_{j|i} / q_{j|i}), in nats, with 0 log 0 = 0. Infinite where a
        q is 0 and its p is not: q below 5e-324 cannot be told from 0.

    Raises
    ------
    InvalidInputError
        P or Q is not a square matrix of real numbers, or their shapes differ.

    Examples
    --------
    All points of the map in one place cost N (log(N - 1) - log(perplexity)):

    >>> import dasksne
    >>> P = dasksne.conditional_probabilities([[0.0], [1.0], [3.0], [6.0]], perplexity=2)
    >>> Q = dasksne.embedding_probabilities([[0.0], [0.0], [0.0], [0.0]])
    >>> float(dasksne.kl_divergence(P, Q).compute().round(6))  # 4 log(3 / 2)
    1.62186
    """
    p, q = _pairs(P, "P"), _pairs(Q, "Q")
    _check_same_points("P", p, "Q", q)
    rows = _blockwise(_row_divergences, "i", p, "ij", q.rechunk(p.chunks), "ij")
    total: da.Array = rows.sum()
    return total


def gradient(P: ArrayLike, Q: ArrayLike, Y: ArrayLike) -> da.Array:
    """Gradient of the cost by the positions in the map.

    Parameters
    ----------
    P, Q : arrays of shape (N, N)
        Conditional probabilities of the data and of the map Y; NumPy, Dask or Zarr.
    Y : array of shape (N, d)
        The map.

    Returns
    -------
    dask.array.Array of shape (N, d), float64
        dC/dy_i = 2 sum_j (y_i - y_j) (p_{j|i} - q_{j|i} + p_{i|j} - q_{i|j}), in nats per unit of
        the map.

    Raises
    ------
    InvalidInputError
        As `kl_divergence`; also where Y does not have N rows.

    Notes
    -----
    A row block of P and Q is read once: it gives its own points their share of the sum by its rows
    and every point a share by its columns. No transposed array is made. The shares, (N, d) each,
    are added in the order of a tree.

    Examples
    --------
    >>> import dasksne
    >>> Y = [[0.0], [1.0], [3.0]]
    >>> P = dasksne.conditional_probabilities([[0.0], [2.0], [3.0]], sigma=1.0)
    >>> Q = dasksne.embedding_probabilities(Y)
    >>> dasksne.gradient(P, Q, Y).compute().round(4)
    array([[ 1.823],
           [-5.469],
           [ 3.646]])
    """
    p, q, y = _pairs(P, "P"), _pairs(Q, "Q"), _points(Y, "Y")
    _check_same_points("P", p, "Q", q)
    _check_same_points("P", p, "Y", y)
    rows = _row_numbers(p)
    shares = _blockwise(
        _gradient_share,
        "ink",
        *(p, "ij", q.rechunk(p.chunks), "ij", rows, "i", y.rechunk(-1), "nk"),
        adjust_chunks={"i": 1},
    )
    total: da.Array = shares.sum(axis=0).rechunk({0: p.chunks[0]})
    return total


# Lazy steps


def _squared(X: ArrayLike, metric: str, *, rescale: bool) -> da.Array:
    """Squared distances by metric; in units of their own where rescale allows that."""
    if metric == "euclidean":
        points = _points(X, "X")
        return _squared_distances(_rescaled(points) if rescale else points)
    if metric == "cosine":
        points = _points(X, "X").rechunk({1: -1})
        return _squared_distances(_blockwise(distances.directions, "ij", points, "ij"))
    if metric == "precomputed":
        pairs = _pairs(X, "X")
        return _blockwise(_square, "ij", pairs, "ij", _row_numbers(pairs), "i", rescale=rescale)
    raise InvalidInputError(
        f"metric must be 'euclidean', 'cosine' or 'precomputed', got {metric!r}"
    )


def _squared_distances(points: da.Array) -> da.Array:
    """One task for each row block and block of points, so that none needs all of X."""
    rows = points.rechunk({0: _block_rows(points)})
    columns = points.rechunk(_chunks(points))
    tiles = _blockwise(_distance_tile, "ij", rows, "ik", columns, "jk")
    squared: da.Array = tiles.rechunk({1: -1})
    return squared


def _rescaled(points: da.Array) -> da.Array:
    """Points times the power of two that brings the largest coordinate into [1/2, 1)."""
    return _blockwise(_rescale, "ij", points, "ij", abs(points).max(), "")


def _with_perplexity(squared: da.Array, perplexity: float) -> da.Array:
    n = squared.shape[0]
    if not 1.0 < perplexity < n - 1:
        raise InvalidInputError(
            f"perplexity must be above 1 and below N - 1 = {n - 1}, got {perplexity!r}"
        )
    rows = _row_numbers(squared)
    precision = _blockwise(_calibrate, "i", squared, "ij", rows, "i", perplexity=perplexity)
    return _blockwise(_softmax, "ij", squared, "ij", precision, "i", rows, "i")


def _with_sigma(squared: da.Array, sigma: Any) -> da.Array:
    n, widths = squared.shape[0], np.asarray(sigma, dtype=np.float64)
    if widths.ndim and widths.shape != (n,):
        raise InvalidInputError(
            f"sigma must be a number or have shape (N,) = ({n},), got shape {widths.shape}"
        )
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        precision = 1.0 / (widths * widths)
    bad = np.flatnonzero(~((widths > 0.0) & (precision > 0.0) & (precision < math.inf)))
    if bad.size:
        raise InvalidInputError(
            "sigma must be positive, and 1 / sigma^2 a finite number, got "
            f"{sigma_of(sigma, int(bad[0]))}"
        )
    rows = _row_numbers(squared)
    if widths.ndim == 0:
        return _blockwise(_softmax, "ij", squared, "ij", float(precision), None, rows, "i")
    lazy = da.from_array(precision, chunks=(squared.chunks[0],))
    return _blockwise(_softmax, "ij", squared, "ij", lazy, "i", rows, "i")


def _row_numbers(pairs: da.Array) -> da.Array:
    numbers: da.Array = da.arange(pairs.shape[0], chunks=(pairs.chunks[0],))
    return numbers


def _blockwise(
    function: Callable[..., FloatArray], index: str, *operands: Any, **options: Any
) -> da.Array:
    """da.blockwise to float64; an index that the result lacks has one block, given whole."""
    result: da.Array = da.blockwise(
        function, index, *operands, concatenate=True, meta=np.empty((0,) * len(index)), **options
    )
    return result


# What is done on one block


def _distance_tile(rows: FloatArray, columns: FloatArray) -> FloatArray:
    tile = np.empty((len(rows), len(columns)))
    distances.squared_distances(np.ascontiguousarray(rows), np.ascontiguousarray(columns), tile)
    return tile


def _rescale(block: FloatArray, largest: FloatArray) -> FloatArray:
    rescaled: FloatArray = np.ldexp(block, -np.frexp(largest)[1])
    return rescaled


def _square(block: FloatArray, rows: IntArray, *, rescale: bool) -> FloatArray:
    """Squares of distances; each row in its own unit where only their ratios count."""
    block = block.copy()
    block[np.arange(len(rows)), rows] = 0.0  # anything may stand there
    if rescale:
        block = _rescale(block, block.max(axis=1, keepdims=True))
    squared: FloatArray = np.square(block)
    return squared


def _calibrate(squared: FloatArray, rows: IntArray, *, perplexity: float) -> FloatArray:
    return calibration.calibrate(squared, int(rows[0]), perplexity).precision


def _softmax(squared: FloatArray, precision: FloatArray | float, rows: IntArray) -> FloatArray:
    """Rows of P; the nearest distance is taken off first, so that no row's sum underflows."""
    p = squared.copy()
    p[np.arange(len(rows)), rows] = np.inf
    p -= p.min(axis=1, keepdims=True)
    p *= -np.reshape(precision, (-1, 1))
    np.exp(p, out=p)
    p /= p.sum(axis=1, keepdims=True)
    return p


def _row_divergences(p: FloatArray, q: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = p * (np.log(p) - np.log(q))
    divergences: FloatArray = np.where(p == 0.0, 0.0, terms).sum(axis=1)
    return divergences


def _gradient_share(p: FloatArray, q: FloatArray, rows: IntArray, y: FloatArray) -> FloatArray:
    """Return what the pairs of a row block add to every point's gradient, shape (1, N, d)."""
    excess = p - q
    share = np.empty(y.shape)
    for k in range(y.shape[1]):
        pull = (y[rows, None, k] - y[:, k]) * excess
        share[:, k] = -pull.sum(axis=0)
        share[rows, k] += pull.sum(axis=1)
    return 2.0 * share[None]


# Input


def _points(values: Any, name: str) -> da.Array:
    """Read values as an (N, anything) float64 array, one chunk wide."""
    if is_dask_collection(values) and not isinstance(values, da.Array):
        raise InvalidInputError(
            f"{name} is a {type(values).__name__}; of Dask's collections only dask.array.Array is "
            "taken: call .to_dask_array(lengths=True), or .data on an xarray object"
        )
    if hasattr(getattr(values, "_meta", values), "nnz"):
        raise InvalidInputError(f"{name} is sparse; give it dense, for instance {name}.toarray()")
    if not isinstance(values, (da.Array, zarr.Array)):
        values = np.asarray(values)
    _check_matrix(values, name)
    if not isinstance(values, da.Array):
        # A name made from a Zarr store's path would stand for the old values after a rewrite.
        unique = False if isinstance(values, zarr.Array) else None
        values = da.from_array(values, chunks=_chunks(values), name=unique)
    points: da.Array = values.rechunk({1: -1}).astype(np.float64)
    return points


def _pairs(values: Any, name: str) -> da.Array:
    """Read values as an (N, N) float64 array in row blocks."""
    points = _points(values, name)
    if points.shape[0] != points.shape[1]:
        raise InvalidInputError(f"{name} must be square, (N, N), got shape {points.shape}")
    pairs: da.Array = points.rechunk({0: _block_rows(points)})
    return pairs


def _chunks(values: Any) -> Any:
    """Chunks of whole rows, of BLOCK_BYTES at most as float64."""
    return normalize_chunks(("auto", -1), values.shape, limit=BLOCK_BYTES, dtype=np.float64)


def _block_rows(values: da.Array) -> int:
    """Height of the row blocks: equal, since Zarr takes no other chunks."""
    fitting = max(1, BLOCK_BYTES // (8 * values.shape[0]))
    return int(min(max(values.chunks[0]), fitting))


def _check_matrix(values: Any, name: str) -> None:
    if values.ndim != 2:
        raise InvalidInputError(f"{name} must have 2 dimensions, got shape {values.shape}")
    if values.dtype.kind not in "biuf":
        raise InvalidInputError(f"{name} must hold real numbers, got dtype {values.dtype}")
    if any(math.isnan(size) for size in values.shape):
        raise InvalidInputError(
            f"{name} has chunks of unknown size; call {name}.compute_chunk_sizes() first"
        )
    if values.shape[0] < 2 or values.shape[1] < 1:
        raise InvalidInputError(
            f"{name} must have at least 2 rows and 1 column, got shape {values.shape}"
        )


def _check_same_points(name: str, values: da.Array, other_name: str, other: da.Array) -> None:
    if values.shape[0] != other.shape[0]:
        raise InvalidInputError(
            f"{name} and {other_name} must have the same number of rows, got {values.shape[0]} "
            f"and {other.shape[0]}"
        )

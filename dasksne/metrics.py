"""Judging a map: which neighbours it keeps, and what each point costs.

All is exact and goes by row blocks, on the current Dask client or this process's threads: a task
holds a few rows of distances in both spaces, never all pairs. What is counted are integers, which
are the same in any layout; the cost of a point is computed from its own rows alone.
"""

from collections.abc import Sequence
from functools import reduce
from numbers import Integral
from operator import add
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from dasksne.affinities import Width, make_width
from dasksne.errors import InvalidInputError
from dasksne.finished import kept_calibration
from dasksne.kernels.calibration import Calibration, normalise
from dasksne.kernels.probabilities import conditional_probabilities
from dasksne.kernels.ranks import count_larger_ranks, neighbour_ranks
from dasksne.pairs import Pair, compared, pair_of_run, panels
from dasksne.run import Run
from dasksne.settings import (
    number_or_array,
    perplexity_of,
    require_one_each,
    require_reachable,
    require_tail_mass,
    require_width,
    sigma_of,
)
from dasksne.source import Source
from dasksne.types import FloatArray, IntArray

Neighbors: TypeAlias = int | Sequence[int]
Share: TypeAlias = float | FloatArray


class QualityCurve(NamedTuple):
    """How well neighbourhoods of each size are kept, for sizes K = 1, ..., N - 2."""

    n_neighbors: IntArray
    """K, shape (N - 2,)."""
    q_nx: FloatArray
    """The share of the K nearest points that data and map have in common, mean over points."""
    r_nx: FloatArray
    """((N - 1) Q_NX(K) - K) / (N - 1 - K): 0 for a random map, 1 for a perfect one."""
    area: float
    """Below R_NX, with K on a logarithmic axis: sum R_NX(K) / K over sum 1 / K."""


class Quality(NamedTuple):
    """What one pass over all pairs says of a map."""

    n_neighbors: tuple[int, ...]
    trustworthiness: FloatArray
    """For each of n_neighbors, as are the next two."""
    continuity: FloatArray
    neighbors_kept: FloatArray
    curve: QualityCurve


def trustworthiness(
    X: Any, Y: Any, *, n_neighbors: Neighbors = 5, metric: str = "euclidean"
) -> Share:
    """Say how far the neighbours in the map are neighbours in the data.

    Parameters
    ----------
    X : array of shape (N, D), or (N, N) where metric is "precomputed" or "affinities"
        The data: whatever `SNE.fit` takes.
    Y : array of shape (N, d)
        The map.
    n_neighbors : int or sequence of int, default=5
        K, below N / 2; several cost one pass.
    metric : {"euclidean", "cosine", "precomputed", "affinities"}
        As of `dasksne.SNE`; with "precomputed", X holds distances (not squared), with "affinities"
        P, dense, and the nearest points are those with the largest.

    Returns
    -------
    float, or an array with one for each of several K
        1 - 2 / (N K (2N - 3K - 1)) sum_i sum_{j in U_i} (r(i, j) - K), in [0, 1], with U_i those of
        the K nearest points in the map that are not so in the data, and r their ranks there [1]_.

    Raises
    ------
    InvalidInputError
        K, X or Y are not what this can take.

    Notes
    -----
    This is `sklearn.manifold.trustworthiness`, where no two distances are equal; of points at equal
    distances the one with the lower index is nearer here, while scikit-learn leaves that open.
    Memory grows with N, not with N^2.

    References
    ----------
    .. [1] J. Venna and S. Kaski, "Neighborhood preservation in nonlinear projection methods: an
       experimental study", ICANN 2001.

    Examples
    --------
    >>> from dasksne import metrics
    >>> X = [[0, 0], [1, 0], [3, 0], [6, 0], [10, 1]]
    >>> metrics.trustworthiness(X, [[0], [1], [3], [6], [10]], n_neighbors=[1, 2])
    array([1., 1.])
    >>> metrics.trustworthiness(X, [[6], [1], [3], [0], [10]], n_neighbors=2)
    0.6
    """
    return _excess(X, Y, n_neighbors, metric, of_data=False)


def continuity(X: Any, Y: Any, *, n_neighbors: Neighbors = 5, metric: str = "euclidean") -> Share:
    """Say how far the neighbours in the data are neighbours in the map.

    It is `trustworthiness` with the roles of data and map exchanged; see there.

    Examples
    --------
    >>> from dasksne import metrics
    >>> X = [[0, 0], [1, 0], [3, 0], [6, 0], [10, 1]]
    >>> metrics.continuity(X, [[6], [1], [3], [0], [10]], n_neighbors=2)
    0.6
    """
    return _excess(X, Y, n_neighbors, metric, of_data=True)


def neighbors_kept(
    X: Any, Y: Any, *, n_neighbors: Neighbors = 5, metric: str = "euclidean"
) -> Share:
    """Return the share of the K nearest points that data and map have in common, over all points.

    Parameters are those of `trustworthiness`, with K below N. A random map keeps K / (N - 1).

    Examples
    --------
    >>> from dasksne import metrics
    >>> X = [[0, 0], [1, 0], [3, 0], [6, 0], [10, 1]]
    >>> metrics.neighbors_kept(X, [[6], [1], [3], [0], [10]], n_neighbors=2)
    0.6
    """
    with compared(X, Y, metric) as pair:
        ks = _sizes(n_neighbors, "N", pair.n)
        kept = reduce(add, pair.results(_neighbours, ks, False))[1]
        return _as_given(kept / (pair.n * np.array(ks)), n_neighbors)


def quality_curve(X: Any, Y: Any, *, metric: str = "euclidean") -> QualityCurve:
    """Return how well neighbourhoods of every size are kept, and the area below that curve.

    Parameters
    ----------
    X, Y, metric
        As for `trustworthiness`; N at least 3.

    Returns
    -------
    QualityCurve
        Q_NX and R_NX of the co-ranking matrix [1]_ and the area below R_NX [2]_.

    Notes
    -----
    Every row of distances is sorted in both spaces: N^2 log N operations, and O(N) memory.

    References
    ----------
    .. [1] J. A. Lee and M. Verleysen, "Quality assessment of dimensionality reduction: rank-based
       criteria", Neurocomputing 72 (2009).
    .. [2] J. A. Lee, D. H. Peluffo-Ordonez and M. Verleysen, "Multi-scale similarities in
       stochastic neighbour embedding", Neurocomputing 169 (2015).

    Examples
    --------
    >>> from dasksne import metrics
    >>> X = [[0, 0], [1, 0], [3, 0], [6, 0], [10, 1]]
    >>> curve = metrics.quality_curve(X, [[6], [1], [3], [0], [10]])
    >>> curve.q_nx.round(3), round(curve.area, 3)
    (array([0.2, 0.6, 0.8]), 0.055)
    """
    with compared(X, Y, metric) as pair:
        return _curve(reduce(add, pair.results(_shared)), pair.n)


def quality(
    X: Any, Y: Any, *, n_neighbors: Sequence[int] = (10,), metric: str = "euclidean"
) -> Quality:
    """Return all of the above in one pass; parameters as there.

    Examples
    --------
    >>> from dasksne import metrics
    >>> X = [[0, 0], [1, 0], [3, 0], [6, 0], [10, 1]]
    >>> metrics.quality(X, [[6], [1], [3], [0], [10]], n_neighbors=[2]).continuity
    array([0.6])
    """
    with compared(X, Y, metric) as pair:
        return _quality(pair, n_neighbors)


def quality_of_run(run: Run, y: FloatArray, n_neighbors: Sequence[int]) -> Quality:
    """Return the quality of a run's map, from the data that it keeps."""
    with pair_of_run(run, y) as pair:
        return _quality(pair, n_neighbors)


def kl_per_point(
    X: Any,
    Y: Any,
    *,
    perplexity: float | None = None,
    sigma: Any = None,
    metric: str = "euclidean",
    tail_mass: float = 0.0,
) -> FloatArray:
    """Return what each point costs: KL(P_i || Q_i), which sum to C.

    Parameters
    ----------
    X, Y, metric
        As for `trustworthiness`.
    perplexity, sigma, tail_mass
        As for `SNE`: they make P.

    Returns
    -------
    ndarray of shape (N,)
        sum_j p_{j|i} log(p_{j|i} / q_{j|i}), in nats.

    Raises
    ------
    InvalidInputError
        X, Y or an option is not what this can take.

    Examples
    --------
    >>> import numpy, dasksne
    >>> from dasksne import metrics
    >>> X = numpy.random.default_rng(0).normal(size=(50, 3))
    >>> model = dasksne.SNE(perplexity=5).fit(X)
    >>> cost = metrics.kl_per_point(X, model.embedding_, perplexity=5)
    >>> bool(abs(cost.sum() - model.kl_divergence_) < 1e-9)
    True
    """
    perplexity = perplexity_of(perplexity, sigma, metric)
    sigma = number_or_array(sigma)
    require_width(perplexity, sigma, metric)
    require_tail_mass(tail_mass, metric)
    with compared(X, Y, metric, rescale=False) as pair:
        require_reachable(perplexity, pair.n)
        require_one_each(sigma, pair.n)
        width = make_width(perplexity, sigma, tail_mass, pair.source.exponent)
        costs = list(pair.results(_costs, pair.executor.broadcast(width)))
    found: FloatArray = np.concatenate(costs)
    finite = np.isfinite(found)
    if not np.all(finite):
        raise InvalidInputError(
            f"costs overflow: {sigma_of(sigma, int(np.argmin(finite)))} is too small beside the "
            "distances between the points, or the map is too wide"
        )
    return found


def kl_of_run(run: Run, y: FloatArray) -> FloatArray:
    """Return what each point of a run's map costs, with the P that the run has."""
    with pair_of_run(run, y, rescale=False) as pair:
        calibration = kept_calibration(run)
        return np.concatenate(list(pair.results(_costs, pair.executor.broadcast(calibration))))


def _sizes(n_neighbors: Any, name: str, limit: float) -> tuple[int, ...]:
    """Return the numbers of neighbours, or refuse them."""
    given = np.atleast_1d(np.asarray(n_neighbors))
    if given.ndim != 1 or not given.size or given.dtype.kind not in "iu":
        raise InvalidInputError(f"n_neighbors={n_neighbors!r} must be an integer or several")
    if given.min() < 1 or given.max() >= limit:
        raise InvalidInputError(
            f"n_neighbors={n_neighbors!r} must be 1 or more and less than {name} = {limit:g}"
        )
    return tuple(given.tolist())


def _as_given(values: FloatArray, n_neighbors: Neighbors) -> Share:
    return float(values[0]) if isinstance(n_neighbors, Integral) else values


# ---- What is counted


def _excess(X: Any, Y: Any, n_neighbors: Neighbors, metric: str, *, of_data: bool) -> Share:
    with compared(X, Y, metric) as pair:
        ks = _sizes(n_neighbors, "N / 2", pair.n / 2)
        sums = reduce(add, pair.results(_neighbours, ks, of_data))
        return _as_given(_normalised(sums[0], pair.n, ks), n_neighbors)


def _quality(pair: Pair, n_neighbors: Sequence[int]) -> Quality:
    ks, n = _sizes(n_neighbors, "N / 2", pair.n / 2), pair.n
    parts = pair.results(_everything, ks)
    of_map, of_data, shared = reduce(lambda one, other: tuple(map(add, one, other)), parts)
    return Quality(
        ks,
        _normalised(of_map[0], n, ks),
        _normalised(of_data[0], n, ks),
        of_map[1] / (n * np.array(ks)),
        _curve(shared, n),
    )


def _normalised(excess: IntArray, n: int, ks: tuple[int, ...]) -> FloatArray:
    k = np.array(ks)
    return 1.0 - excess * (2.0 / (n * k * (2.0 * n - 3.0 * k - 1.0)))


def _curve(shared: IntArray, n: int) -> QualityCurve:
    if n < 3:
        raise InvalidInputError(f"X has {n} points; a curve needs at least 3 points")
    k = np.arange(1, n - 1)
    q_nx = np.cumsum(shared)[:-1] / (n * k)
    r_nx = ((n - 1) * q_nx - k) / (n - 1 - k)
    return QualityCurve(k, q_nx, r_nx, float(np.sum(r_nx / k) / np.sum(1.0 / k)))


# ---- Tasks


def _neighbours(
    rows: slice, source: Source, y: FloatArray, ks: tuple[int, ...], of_data: bool
) -> IntArray:
    """Return `_rank_sums` of some rows, of the neighbours in the map or of those in the data."""
    sums = np.zeros((2, len(ks)), dtype=np.int64)
    for panel, a, b in panels(rows, source, y):
        spaces = (b, a) if of_data else (a, b)
        sums += _rank_sums(neighbour_ranks(*spaces, panel.start, max(ks)), ks)
    return sums


def _rank_sums(ranks: IntArray, ks: tuple[int, ...]) -> IntArray:
    """Return for each k by how much ranks exceed it, in all, and how many do not."""
    return np.array(
        [
            [np.sum(np.maximum(ranks[:, :k] - k, 0)) for k in ks],
            [np.sum(ranks[:, :k] <= k) for k in ks],
        ]
    )


def _shared(rows: slice, source: Source, y: FloatArray) -> IntArray:
    counts = np.zeros(source.n_points - 1, dtype=np.int64)
    for panel, a, b in panels(rows, source, y):
        count_larger_ranks(a, b, panel.start, counts)
    return counts


def _everything(
    rows: slice, source: Source, y: FloatArray, ks: tuple[int, ...]
) -> tuple[IntArray, IntArray, IntArray]:
    of_map, of_data = np.zeros((2, 2, len(ks)), dtype=np.int64)
    counts = np.zeros(source.n_points - 1, dtype=np.int64)
    for panel, a, b in panels(rows, source, y):
        of_map += _rank_sums(neighbour_ranks(a, b, panel.start, max(ks)), ks)
        of_data += _rank_sums(neighbour_ranks(b, a, panel.start, max(ks)), ks)
        count_larger_ranks(a, b, panel.start, counts)
    return of_map, of_data, counts


def _costs(rows: slice, source: Source, y: FloatArray, given: Width | Calibration) -> FloatArray:
    """Return KL(P_i || Q_i) of some rows.

    It is -H(P_i) + sum_j p_{j|i} (|y_i - y_j|^2 - m) + log sum_j exp(m - |y_i - y_j|^2), with m the
    smallest square.
    """
    costs = []
    for panel, a, b in panels(rows, source, y):
        if isinstance(given, Width):
            found = given.calibrate(a, panel.start, source.counts)
        else:
            found = Calibration(*(values[panel] for values in given))
        of_map = normalise(b, panel.start, precision=1.0, counts=source.counts)
        conditional_probabilities(a, panel.start, found, a)
        if source.counts is not None:
            np.multiply(a, source.counts, out=a)
        np.subtract(b, of_map.nearest[:, np.newaxis], out=b)
        energy = np.sum(np.multiply(a, b, out=b), axis=1)
        costs.append(energy + of_map.log_normaliser - found.entropy)
    return np.concatenate(costs)

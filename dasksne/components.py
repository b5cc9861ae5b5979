"""Principal components of data of any size: X is read a few times, and never held."""

from collections.abc import Callable

import numpy as np

from dasksne.executor import Executor
from dasksne.kernels.components import (
    covariance_product,
    fix_signs,
    orthonormal,
    rotate,
    scores,
)
from dasksne.source import Features, row_chunks
from dasksne.types import FloatArray

OVERSAMPLING = 10
"""Columns beyond those asked for, so that the leading ones converge fast."""
PASSES = 300
"""Should so many not do, the components are those of a space that holds nearly as much."""
SHARES_BYTES = 128 << 20
"""Of what the tasks of a pass return, all together, where each has more than one chunk of X."""
FEWEST_TASKS = 16


def weighted_mean(executor: Executor, source: Features) -> FloatArray:
    """Return the mean of points that count so often each, shape (D,)."""
    assert source.counts is not None  # noqa: S101 - else the look at the data has it
    shares = executor.map(_weighted_sum, row_chunks(*source.x.shape), source)
    total = np.sum([executor.result(share) for share in shares], axis=0)
    return np.asarray(total / np.sum(source.counts))


def _weighted_sum(rows: slice, source: Features) -> FloatArray:
    assert source.counts is not None  # noqa: S101 - as above
    return np.asarray(np.sum(source.counts[rows, np.newaxis] * source.read(rows), axis=0))


def principal_components(
    executor: Executor,
    source: Features,
    mean: FloatArray,
    scale: FloatArray,
    count: int,
    *,
    width: int,
    tolerance: float,
) -> FloatArray:
    """Return the leading principal components of (X - mean) / scale, shape (D, count).

    Parameters
    ----------
    executor : Executor
        Entered.
    source : Features
    mean, scale : arrays of shape (D,)
    count : int
        D at most.
    width : int
        Columns that are iterated; with D of them one pass finds all.
    tolerance : float
        Of the residual of each component, relative to the largest eigenvalue.

    Notes
    -----
    Rayleigh and Ritz on the span of the vectors found, their images and the vectors before: the
    locally optimal block iteration, which needs about as many passes as Lanczos' method.

    References
    ----------
    A. V. Knyazev, "Toward the optimal preconditioned eigensolver: locally optimal block
    preconditioned conjugate gradient method", SIAM J. Sci. Comput. 23 (2001).
    """
    product = _product(executor, source, mean, scale)
    generator = np.random.Generator(np.random.Philox(key=0))
    basis = orthonormal(generator.standard_normal((source.x.shape[1], width)))
    values, vectors, images = rotate(basis, product(basis))
    before = basis
    for _ in range(PASSES):
        residual = images - vectors * values
        norms = np.sqrt(np.sum(np.square(residual[:, :count]), axis=0))
        if np.all(norms <= tolerance * abs(values[0])):
            break
        basis = orthonormal(np.hstack([vectors, residual, before]))
        before = vectors
        values, vectors, images = (part[..., :width] for part in rotate(basis, product(basis)))
    return fix_signs(vectors[:, :count])


def _product(
    executor: Executor, source: Features, mean: FloatArray, scale: FloatArray
) -> Callable[[FloatArray], FloatArray]:
    """Return what multiplies some columns, shape (D, k), with the scatter matrix of the data."""
    centre, inverse = executor.broadcast(mean), 1.0 / scale[:, np.newaxis]

    def product(vectors: FloatArray) -> FloatArray:
        shares = executor.map(
            _covariance_product,
            _groups(*source.x.shape, vectors.shape[1]),
            source,
            centre,
            executor.broadcast(inverse * vectors),
        )
        # One after the other, and given up: each may be large.
        total = np.zeros_like(vectors)
        for _ in range(len(shares)):
            total += executor.result(shares.pop(0))
        return inverse * total

    return product


def _groups(n_points: int, n_features: int, width: int) -> list[slice]:
    """Return the rows of each task of a pass: whole chunks, so that all shares have their bytes.

    Examples
    --------
    >>> len(_groups(1_000_000, 100, 12)), len(_groups(1_000_000, 2_000, 2_000))
    (196, 16)
    """
    chunks = row_chunks(n_points, n_features)
    tasks = max(FEWEST_TASKS, SHARES_BYTES // (8 * n_features * width))
    each = -(-len(chunks) // tasks)
    groups = [chunks[first : first + each] for first in range(0, len(chunks), each)]
    return [slice(group[0].start, group[-1].stop) for group in groups]


def _covariance_product(
    rows: slice, source: Features, mean: FloatArray, vectors: FloatArray
) -> FloatArray:
    chunks = row_chunks(rows.stop - rows.start, source.x.shape[1])
    starts = (slice(rows.start + chunk.start, rows.start + chunk.stop) for chunk in chunks)
    total = np.zeros_like(vectors)
    for chunk in starts:
        counts = None if source.counts is None else source.counts[chunk]
        total += covariance_product(source.read(chunk), mean, vectors, counts)
    return total


def component_scores(
    executor: Executor, source: Features, mean: FloatArray, components: FloatArray
) -> FloatArray:
    """Return the coordinates of all points on the components, shape (N, k)."""
    parts = executor.map(
        _scores,
        row_chunks(*source.x.shape),
        source,
        executor.broadcast(mean),
        executor.broadcast(components),
    )
    return np.concatenate([executor.result(part) for part in parts])


def _scores(rows: slice, source: Features, mean: FloatArray, components: FloatArray) -> FloatArray:
    return scores(source.read(rows) - mean, components)

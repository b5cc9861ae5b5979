"""A start from the spectrum of the affinities: the Laplacian eigenmap of S = P + P^T."""

from collections.abc import Callable, Iterator

import numpy as np

from dasksne.optimise.harmonics import independent_columns
from dasksne.optimise.state import inner, spread
from dasksne.types import FloatArray

MAX_PRODUCTS = 90
"""Of S with d columns, unless fewer are asked for. (A swiss roll of 1,000 points takes 80.)"""
RESIDUAL = 5e-4
"""Of an eigenvector, relative to the largest eigenvalue, one: a start needs no more digits. (The
third eigenvalue of all of MNIST is 2e-3 below the second.)"""
PATIENCE = 2
"""Times the products that the first columns took: after so many, one of those found is chosen. (Of
a hundred clusters far apart the first are found at once, and the others hardly.)"""
CHECK_EVERY = 5
SPARE = 4
"""Eigenvectors to choose from, beyond those needed."""
NEGLIGIBLE = 1e-8
"""What is left of a unit column after orthogonalisation when it adds nothing new."""


def spectral_start(
    product: Callable[[FloatArray], FloatArray],
    degrees: FloatArray,
    first: FloatArray,
    *,
    max_products: int = MAX_PRODUCTS,
    counts: FloatArray | None = None,
) -> FloatArray:
    """Return the smoothest map of the graph that S weighs whose columns do not repeat each other.

    Its columns are eigenvectors of S v = lambda diag(degrees) v with the largest eigenvalues below
    the trivial one, whose vector is constant; one that is a function of those before it is left out
    (`harmonics.independent_columns`). S is only multiplied, never held.

    Parameters
    ----------
    product : callable
        V -> S V, both of shape (N, d) or narrower.
    degrees : array of shape (N,)
        Sums of the rows of S.
    first : array of shape (N, d)
        Where the search begins: the smoother, the sooner it ends. Of a multiple eigenvalue d
        vectors are found.
    max_products : int
        Calls of `product` at most.
    counts : array of shape (N,), optional
        How often each point counts in mean and deviation; once unless given. (S has it already.)

    Returns
    -------
    array of shape (N, d)
        Centred, each column with standard deviation 1.

    References
    ----------
    M. Belkin and P. Niyogi, "Laplacian eigenmaps for dimensionality reduction and data
    representation", Neural Computation 15 (2003).

    Examples
    --------
    >>> import numpy as np
    >>> S = np.diag(np.ones(9), 1) + np.diag(np.ones(9), -1)   # ten points on a line
    >>> y = spectral_start(lambda v: S @ v, S.sum(axis=1), np.arange(10.0)[:, np.newaxis])
    >>> bool(np.all(np.diff(y[:, 0]) > 0) or np.all(np.diff(y[:, 0]) < 0))
    True
    """
    n_components = first.shape[1]
    wanted = min(n_components + SPARE, max(degrees.size - 1, n_components))
    eigenmap, enough = first, np.inf
    found = _eigenvectors(product, degrees, wanted, first, max_products)
    for check, (vectors, residuals) in enumerate(found, start=1):
        eigenmap = _standardised(vectors, counts)
        is_found = residuals <= RESIDUAL
        if np.all(is_found[:n_components]):
            enough = min(enough, PATIENCE * check)
            if check >= enough:
                eigenmap, is_found = eigenmap[:, is_found], is_found[is_found]
            columns = independent_columns(eigenmap, n_components, counts=counts)
            if np.all(is_found[columns]):
                break
    else:
        columns = independent_columns(eigenmap, n_components, counts=counts)
    # Of very few points there may be fewer eigenvectors than columns.
    return np.hstack([eigenmap[:, columns], first[:, len(columns) :]])


def _eigenvectors(
    product: Callable[[FloatArray], FloatArray],
    degrees: FloatArray,
    wanted: int,
    first: FloatArray,
    max_products: int,
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield the eigenvectors found so far, shape (N, wanted), and their residuals.

    A block Krylov space is built on D^-1/2 S D^-1/2, orthogonalised in full, and searched by
    Rayleigh and Ritz. (By BLAS: executors hold it at one thread, on which its bits depend.)
    """
    root = np.sqrt(degrees)
    basis = np.empty((1 + first.shape[1] * max_products, degrees.size))
    basis[0] = root / np.sqrt(np.sum(degrees))
    projected = np.zeros((len(basis), len(basis)))
    block, last, size = np.ascontiguousarray(first.T) * root, 1, 1
    for count in range(1, max_products + 1):
        block = _orthonormal(block, basis[:size])
        exhausted = not len(block)
        if not exhausted:
            last, size = size, size + len(block)
            basis[last:size] = block
            image = product((block / root).T).T / root
            projected[:size, last:size] = basis[:size] @ image.T
            projected[last:size, :size] = projected[:size, last:size].T
            block = image - projected[last:size, :size] @ basis[:size]
        if size > 1 and (exhausted or count % CHECK_EVERY == 0 or count == max_products):
            chosen = np.linalg.eigh(projected[1:size, 1:size])[1][:, ::-1][:, :wanted]
            residuals = np.zeros(chosen.shape[1])
            if not exhausted:
                # What is left of the last images is all that leads out of the space.
                residuals = np.sqrt(np.sum((chosen[last - 1 :].T @ block) ** 2, axis=1))
            yield (basis[1:size].T @ chosen) / root[:, np.newaxis], residuals
        if exhausted:
            return


def _standardised(y: FloatArray, counts: FloatArray | None) -> FloatArray:
    """Return columns centred and of standard deviation 1, but for constant ones."""
    y = y - np.average(y, axis=0, weights=counts)
    deviation = spread(y, counts)
    return np.asarray(y / np.where(deviation > 0.0, deviation, 1.0))


def _orthonormal(block: FloatArray, basis: FloatArray) -> FloatArray:
    """Return the rows of a block made orthonormal to a basis and to each other.

    Gram and Schmidt, twice over; rows that add nothing are left out.
    """
    norms = np.sqrt(np.sum(block**2, axis=1, keepdims=True))
    block = block / np.where(norms > 0.0, norms, 1.0)
    for _ in range(2):
        block = block - (block @ basis.T) @ basis
    found: list[FloatArray] = []
    for row in block:
        for _ in range(2):
            # Of parts that do not touch, hardly more than rounding is left: none of it be trivial.
            for other in (*basis[:1], *found):
                row = row - inner(other, row) * other  # noqa: PLW2901
        norm = np.sqrt(inner(row, row))
        if norm > NEGLIGIBLE:
            found.append(row / norm)
    return np.reshape(found, (-1, basis.shape[1]))

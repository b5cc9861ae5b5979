"""A start from the spectrum of the affinities: the Laplacian eigenmap of S = P + P^T."""

from collections.abc import Callable

import numpy as np

from dasksne.optimise.harmonics import independent_columns
from dasksne.optimise.state import inner, spread
from dasksne.types import FloatArray

MAX_PRODUCTS = 60
RESIDUAL = 1e-3
"""Relative to the largest eigenvalue, one: a start needs no more digits."""
CHECK_EVERY = 5
SPARE = 4
"""Eigenvectors to choose from, beyond those needed."""
NEGLIGIBLE = 1e-8
"""What is left of a unit column after orthogonalisation when it adds nothing new."""


def laplacian_eigenmap(
    product: Callable[[FloatArray], FloatArray],
    degrees: FloatArray,
    n_components: int = 2,
    *,
    seed: int = 0,
    max_products: int = MAX_PRODUCTS,
    counts: FloatArray | None = None,
) -> FloatArray:
    """Return the smoothest maps of the graph that S weighs, each column with standard deviation 1.

    They are the eigenvectors of S v = lambda diag(degrees) v with the largest eigenvalues below
    the trivial one, whose vector is constant. S is only multiplied, never held.

    Parameters
    ----------
    product : callable
        V -> S V, both of shape (N, n_components + 1).
    degrees : array of shape (N,)
        Sums of the rows of S.
    n_components : int
        Columns of the map.
    seed : int
        Of the first columns.
    max_products : int
        Calls of `product` at most.
    counts : array of shape (N,), optional
        How often each point counts in mean and deviation; once unless given. (S has it already.)

    Returns
    -------
    array of shape (N, n_components)

    Notes
    -----
    A block Krylov space is built on D^-1/2 S D^-1/2, orthogonalised in full, and searched by
    Rayleigh and Ritz; one column more than asked finds double eigenvalues too.

    References
    ----------
    M. Belkin and P. Niyogi, "Laplacian eigenmaps for dimensionality reduction and data
    representation", Neural Computation 15 (2003).

    Examples
    --------
    >>> import numpy as np
    >>> S = np.diag(np.ones(9), 1) + np.diag(np.ones(9), -1)   # ten points on a line
    >>> y = laplacian_eigenmap(lambda v: S @ v, S.sum(axis=1), 1)
    >>> bool(np.all(np.diff(y[:, 0]) > 0) or np.all(np.diff(y[:, 0]) < 0))
    True
    """
    root = np.sqrt(degrees)[:, np.newaxis]
    trivial = root / np.sqrt(np.sum(degrees))
    basis, images = trivial, trivial
    block: FloatArray = np.random.Generator(np.random.Philox(key=seed)).standard_normal(
        (degrees.size, n_components + 1)
    )
    for count in range(1, max_products + 1):
        block = _orthonormal(block, basis)
        if not block.shape[1]:
            break
        image = product(block / root) / root
        basis, images = np.hstack([basis, block]), np.hstack([images, image])
        block = image
        if count % CHECK_EVERY == 0 and _ritz(basis, images, n_components)[1] <= RESIDUAL:
            break
    y: FloatArray = _ritz(basis, images, n_components)[0] / root
    y -= np.average(y, axis=0, weights=counts)
    deviation = spread(y, counts)
    y /= np.where(deviation > 0.0, deviation, 1.0)
    return y


def spectral_start(
    product: Callable[[FloatArray], FloatArray],
    degrees: FloatArray,
    n_components: int = 2,
    *,
    seed: int = 0,
    counts: FloatArray | None = None,
) -> FloatArray:
    """Return the smoothest map whose columns do not repeat each other, shape (N, n_components).

    Parameters are those of `laplacian_eigenmap`, but that `product` is given n_components + 5
    columns. Of n_components + 4 eigenvectors those are taken that are no function of the ones
    before (`harmonics.independent_columns`).
    """
    wanted = min(n_components + SPARE, max(degrees.size - 1, n_components))
    eigenmap = laplacian_eigenmap(product, degrees, wanted, seed=seed, counts=counts)
    return eigenmap[:, independent_columns(eigenmap, n_components, seed=seed, counts=counts)]


def _orthonormal(block: FloatArray, basis: FloatArray) -> FloatArray:
    """Return the columns of a block made orthonormal to a basis and to each other.

    Gram and Schmidt, twice over; columns that add nothing are left out.
    """
    columns = list(basis.T)
    new = []
    for column in block.T:
        norm = np.sqrt(inner(column, column))
        if not norm > 0.0:
            continue
        rest = column / norm
        for _ in range(2):
            for other in columns:
                rest = rest - inner(other, rest) * other
        norm = np.sqrt(inner(rest, rest))
        if norm > NEGLIGIBLE:
            columns.append(rest / norm)
            new.append(rest / norm)
    return np.stack(new, axis=1) if new else np.empty((block.shape[0], 0))


def _ritz(basis: FloatArray, images: FloatArray, n_components: int) -> tuple[FloatArray, float]:
    """Return the best vectors of a subspace, the trivial one left out, and their worst residual."""
    projected = np.einsum("ij,ik->jk", basis[:, 1:], images[:, 1:])
    values, vectors = np.linalg.eigh(0.5 * (projected + projected.T))
    chosen = vectors[:, ::-1][:, :n_components]
    found = np.einsum("ij,jk->ik", basis[:, 1:], chosen)
    residual = np.einsum("ij,jk->ik", images[:, 1:], chosen) - found * values[::-1][:n_components]
    return found, float(np.sqrt(np.max(np.sum(residual**2, axis=0), initial=0.0)))

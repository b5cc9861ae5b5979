"""Principal components, by products with row blocks of X."""

import numpy as np

from dasksne.kernels.compiled import strict
from dasksne.types import FloatArray


def squared_deviations(
    x_rows: FloatArray, mean: FloatArray, counts: FloatArray | None = None
) -> FloatArray:
    """Return a row block's share of the sum of (X - mean)^2 of each feature, shape (D,).

    Each row counts as often as said, or once.
    """
    squares = np.square(x_rows - mean)
    if counts is not None:
        squares *= counts[:, np.newaxis]
    return np.asarray(np.sum(squares, axis=0))


def is_constant(mean: FloatArray, variance: FloatArray, n_points: int) -> FloatArray:
    """Say of each feature whether its variance is nothing but rounding, as scikit-learn does."""
    eps = np.finfo(np.float64).eps
    return np.asarray(variance <= n_points * eps * variance + np.square(n_points * eps * mean))


def covariance_product(
    x_rows: FloatArray, mean: FloatArray, vectors: FloatArray, counts: FloatArray | None = None
) -> FloatArray:
    """Return a row block's share of (X - mean)^T (X - mean) V.

    Parameters
    ----------
    x_rows : array of shape (r, D)
    mean : array of shape (D,)
    vectors : array of shape (D, k)
    counts : array of shape (r,), optional
        How often each row counts; once unless given.

    Returns
    -------
    array of shape (D, k)
    """
    centred = x_rows - mean
    products = centred @ vectors
    if counts is not None:
        products *= counts[:, np.newaxis]
    return np.asarray(centred.T @ products)


def scores(centred: FloatArray, components: FloatArray) -> FloatArray:
    """Return the coordinates of centred rows on the components, shape (r, k).

    A row's bits do not depend on the rows beside it, as those of a matrix product would: a point
    that comes back alone is recognised.
    """
    out = np.empty((len(centred), components.shape[1]))
    _scores(np.ascontiguousarray(centred), np.ascontiguousarray(components), out)
    return out


@strict
def _scores(centred, components, out):  # type: ignore[no-untyped-def]
    """Go through four rows at a time: each loaded component is used four times."""
    n_rows, n_features = centred.shape
    width = components.shape[1]
    sums = np.empty((4, width))
    for i in range(0, n_rows, 4):
        last = n_rows - 1
        a, b = centred[i], centred[min(i + 1, last)]
        c, d = centred[min(i + 2, last)], centred[min(i + 3, last)]
        sums[:] = 0.0
        for j in range(n_features):
            for k in range(width):
                value = components[j, k]
                sums[0, k] += a[j] * value
                sums[1, k] += b[j] * value
                sums[2, k] += c[j] * value
                sums[3, k] += d[j] * value
        for r in range(min(4, n_rows - i)):
            out[i + r] = sums[r]


def orthonormal(vectors: FloatArray) -> FloatArray:
    """Return an orthonormal basis of the columns, shape (D, k)."""
    return np.asarray(np.linalg.qr(vectors)[0])


def rotate(basis: FloatArray, images: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the Ritz values and vectors of a basis, the largest first, and the vectors' images.

    Parameters
    ----------
    basis : array of shape (D, k)
        Orthonormal columns.
    images : array of shape (D, k)
        The symmetric operator times the basis.
    """
    values, rotation = np.linalg.eigh(basis.T @ images)
    rotation = rotation[:, ::-1]
    return values[::-1], basis @ rotation, images @ rotation


def fix_signs(components: FloatArray) -> FloatArray:
    """Return the columns with their largest entry positive: a component has no sign of its own."""
    largest = components[np.argmax(np.abs(components), axis=0), np.arange(components.shape[1])]
    return components * np.where(largest < 0.0, -1.0, 1.0)

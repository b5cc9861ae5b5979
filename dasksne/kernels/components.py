"""Principal components, by products with row blocks of X."""

import numpy as np

from dasksne.types import FloatArray


def covariance_product(x_rows: FloatArray, mean: FloatArray, vectors: FloatArray) -> FloatArray:
    """Return a row block's share of (X - mean)^T (X - mean) V.

    Parameters
    ----------
    x_rows : array of shape (r, D)
    mean : array of shape (D,)
    vectors : array of shape (D, k)

    Returns
    -------
    array of shape (D, k)
    """
    centred = x_rows - mean
    return np.asarray(centred.T @ (centred @ vectors))


def scores(x_rows: FloatArray, mean: FloatArray, components: FloatArray) -> FloatArray:
    """Return the coordinates of rows on the components, shape (r, k)."""
    return np.asarray((x_rows - mean) @ components)


def orthonormal(vectors: FloatArray) -> FloatArray:
    """Return an orthonormal basis of the columns, shape (D, k)."""
    return np.asarray(np.linalg.qr(vectors)[0])


def rotate(basis: FloatArray, images: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the Ritz values and vectors of a basis, the largest first (Rayleigh and Ritz).

    Parameters
    ----------
    basis : array of shape (D, k)
        Orthonormal columns.
    images : array of shape (D, k)
        The symmetric operator times the basis.
    """
    values, vectors = np.linalg.eigh(basis.T @ images)
    return values[::-1], basis @ vectors[:, ::-1]


def fix_signs(components: FloatArray) -> FloatArray:
    """Return the columns with their largest entry positive: a component has no sign of its own."""
    largest = components[np.argmax(np.abs(components), axis=0), np.arange(components.shape[1])]
    return components * np.where(largest < 0.0, -1.0, 1.0)

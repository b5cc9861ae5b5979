"""One gradient step of SNE written plainly in dask.array: what anybody would write first."""

from collections.abc import Callable

import dask
import dask.array as da
import numpy as np

ROWS = 1000
"""Of a chunk: 8 MB of a matrix of 1,000 points, 80 MB of one of 10,000."""


def squared_distances(points: da.Array) -> da.Array:
    norms = (points * points).sum(axis=1)
    return da.maximum(norms[:, None] + norms[None, :] - 2 * points @ points.T, 0)


def conditional_probabilities(exponents: da.Array) -> da.Array:
    n = len(exponents)
    kernel = da.exp(-exponents) * (1 - da.eye(n, chunks=exponents.chunks[0][0]))
    return kernel / kernel.sum(axis=1)[:, None]


def make_step(
    X: np.ndarray, precision: np.ndarray
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return a function from a map to its cost and gradient; P is held in memory.

    `precision` has one number for each row: p_{j|i} is proportional to exp(-beta_i |x_i - x_j|^2).
    """
    rows = min(len(X), ROWS)
    data = da.from_array(X, chunks=(rows, -1))
    beta = da.from_array(precision, chunks=rows)
    P = conditional_probabilities(beta[:, None] * squared_distances(data)).persist()
    tiny = np.finfo(np.float64).tiny

    def step(Y: np.ndarray) -> tuple[float, np.ndarray]:
        y = da.from_array(Y, chunks=(rows, -1))
        Q = conditional_probabilities(squared_distances(y))
        M = P - Q
        M += M.T
        gradient = 2 * (M.sum(axis=1)[:, None] * y - M @ y)
        cost = (P * da.log((P + tiny) / (Q + tiny))).sum()
        return dask.compute(cost, gradient)

    return step

"""Which columns of an eigenmap are directions of their own, and which repeat an earlier one."""

import numpy as np

from dasksne.types import FloatArray, IntArray

SAMPLE = 1000
"""Points that the question is asked of: the answer does not get better with more."""
BANDWIDTH = 1.0 / 3.0
"""Of the local regressions, as a share of the median distance."""
RIDGE = 1e-10


def independent_columns(
    eigenmap: FloatArray, n_components: int, *, counts: FloatArray | None = None
) -> list[int]:
    """Return the columns that the ones before them explain least; the first is always one.

    On a long strip the second eigenvector is a parabola over the first, the third a cubic, and the
    strip's width comes later: a map of the first two is a curve. A column that is a function of
    those before it is predicted well by local linear regression on them.

    Parameters
    ----------
    eigenmap : array of shape (N, k)
        Eigenvectors, the smoothest first.
    n_components : int
        How many columns to choose, at most k.
    counts : array of shape (N,), optional
        How often each point counts; once unless given.

    Returns
    -------
    list of int
        In increasing order.

    References
    ----------
    C. J. Dsilva, R. Talmon, R. R. Coifman and I. G. Kevrekidis, "Parsimonious representation of
    nonlinear dynamical systems through manifold learning", Applied and Computational Harmonic
    Analysis 44 (2018).

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.meshgrid(np.linspace(0, np.pi, 40), np.linspace(0, np.pi, 10))
    >>> length, width = x.ravel(), y.ravel()
    >>> columns = np.stack([np.cos(length), np.cos(2 * length), np.cos(width)], axis=1)
    >>> independent_columns(columns, 2)
    [0, 2]
    """
    n_points, n_columns = eigenmap.shape
    if counts is not None:
        eigenmap = eigenmap[_sampled_copies(counts)]
    elif n_points > SAMPLE:
        generator = np.random.Generator(np.random.Philox(key=0))
        eigenmap = eigenmap[np.sort(generator.choice(n_points, SAMPLE, replace=False))]
    unexplained = [np.inf]
    unexplained += [_unexplained(eigenmap[:, :k], eigenmap[:, k]) for k in range(1, n_columns)]
    # Stable, so that of two equal columns the smoother one is taken.
    return sorted(int(k) for k in np.argsort(-np.array(unexplained), kind="stable")[:n_components])


def _sampled_copies(counts: FloatArray) -> IntArray:
    """Return each point as often as it counts; of more copies than SAMPLE, evenly so many."""
    ends = np.cumsum(counts)
    wanted = min(SAMPLE, int(ends[-1]))
    return np.asarray(np.searchsorted(ends, (np.arange(wanted) + 0.5) * (ends[-1] / wanted)))


def _unexplained(predictors: FloatArray, response: FloatArray) -> float:
    """Return the share of the response that local regression, each point left out, leaves over."""
    differences = predictors[:, np.newaxis] - predictors[np.newaxis]
    squares = np.sum(differences**2, axis=2)
    scale = BANDWIDTH**2 * float(np.median(squares))
    total = float(np.sum(response**2))
    if not (scale > 0.0 and total > 0.0):
        return 0.0
    weights = np.exp(-squares / scale)
    np.fill_diagonal(weights, 0.0)
    design = np.column_stack([np.ones(len(response)), predictors])
    products = np.einsum("ja,jb->jab", design, design).reshape(len(response), -1)
    width = design.shape[1]
    normal = np.einsum("ij,jc->ic", weights, products).reshape(-1, width, width)
    normal += RIDGE * np.eye(width)
    moments = np.einsum("ij,jc->ic", weights, design * response[:, np.newaxis])
    fitted = np.linalg.solve(normal, moments[:, :, np.newaxis])[:, :, 0]
    return float(np.sum((response - np.sum(design * fitted, axis=1)) ** 2)) / total

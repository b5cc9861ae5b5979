"""Starts that no gradient can lead out of, and the way out."""

import numpy as np

from dasksne.optimise.state import extent
from dasksne.types import FloatArray

FLAT = 1e-7
"""Of the widest direction: a map that is thinner lies on a line (or a plane), up to rounding."""
NUDGE = 1e-4
"""Of the extent, or of the kernel's width where all points are equal."""


def break_symmetry(y: FloatArray, *, seed: int = 0) -> FloatArray:
    """Return a map that spans all of its dimensions; one that does already comes back as it is.

    Points on a line are only ever pulled along the line, and points that are all equal not at all.
    Such a map is nudged by normal numbers that the seed fixes.

    Parameters
    ----------
    y : array of shape (N, d)
    seed : int

    Examples
    --------
    >>> import numpy as np
    >>> line = np.stack([np.arange(4.0), np.zeros(4)], axis=1)
    >>> moved = break_symmetry(line)
    >>> bool(np.all(moved[:, 1] != 0.0)), bool(np.allclose(moved, line, atol=1e-2))
    (True, True)
    >>> break_symmetry(moved) is moved
    True
    """
    size = extent(y)
    if size > 0.0:
        centred = (y - np.mean(y, axis=0)) / size
        variances = np.linalg.eigvalsh(np.einsum("ij,ik->jk", centred, centred))
        if variances[0] > FLAT**2 * variances[-1]:
            return y
    numbers = np.random.Generator(np.random.Philox(key=seed)).standard_normal(y.shape)
    nudge = NUDGE * size if size > 0.0 else NUDGE
    return y + nudge * numbers

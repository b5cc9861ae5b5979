"""The place of a new point on a fixed map: its row of the cost alone, which is convex.

With t = sum_j p_j y_j, u = y - t and z_j = y_j - t, the row's cost is, but for a constant,

    -2 y . t + log sum_j exp(2 y . y_j - |y_j|^2)  =  log sum_j exp(z_j . (2 u - z_j)) - |t|^2.

Its gradient is 2 E_q[z] and its Hessian 4 Cov_q[z], q the point's row of Q: the point goes where
the mean of the map under q is its mean under p. Relative to t nothing cancels, wherever the map
lies.
"""

import math

import numpy as np

from dasksne.kernels.compiled import exp_nonpositive, strict, summation
from dasksne.types import FloatArray

REACH = 5.0
"""Widths of the kernel exp(-|y|^2): a point so far from its weighted mean meets a wall. Solutions
of ordinary data lie within 1, and within 3 at a perplexity of 2."""
LAST_DECREMENT = 1e-14
"""The squared change of q's exponents from which one more Newton step ends at rounding."""
ROUNDING = 1e-14
"""Relative, of weighted means and of the cost."""
DAMPING = 1e-7
"""Of the mean curvature: keeps a point on its weighted mean across a map that is a line."""
SUFFICIENT_DECREASE = 1e-4
SHORTEST_STEP = 1e-10
MAX_STEPS = 100
SMALLEST = 1e-100
"""Added to a curvature that may be zero, as it is where one point has all of q."""


def weighted_means(
    distances: FloatArray,
    precision: FloatArray,
    y: FloatArray,
    counts: FloatArray | None = None,
) -> FloatArray:
    """Return sum_j p_{j|i} y_j of new points, p_{j|i} proportional to c_j exp(-beta_i d_ij).

    Parameters
    ----------
    distances : array of shape (r, N), float64
        Squared distances d_ij from the new points to the N points of the map.
    precision : array of shape (r,)
        beta_i.
    y : array of shape (d, N), float64
        The map, transposed.
    counts : array of shape (N,), float64, optional
        c, how often each point of the map counts; once unless given.

    Returns
    -------
    array of shape (r, d), float64
    """
    out = np.empty((distances.shape[0], y.shape[0]))
    _weighted_means(distances, precision, y, counts, out)
    return out


def place(
    targets: FloatArray,
    y: FloatArray,
    counts: FloatArray | None = None,
) -> FloatArray:
    """Return where new points cost least on a map that stays as it is.

    Each row is worked out on its own, by Newton's method with shortened steps from the weighted
    mean, to rounding. A row of NaN stays NaN.

    Parameters
    ----------
    targets : array of shape (r, d), float64
        See `weighted_means`.
    y : array of shape (d, N), float64
        The map, transposed.
    counts : array of shape (N,), float64, optional
        How often each point of the map counts; once unless given.

    Returns
    -------
    array of shape (r, d), float64

    Notes
    -----
    A weighted mean at the rim of the map has its solution far outside, and one at a corner none:
    the row's cost falls for ever. So beyond |u| = REACH half of the cost is joined by
    (|u|^2 - REACH^2)^3 / (6 REACH^4), a convex wall with two derivatives: such a point stays beside
    the map, a little over REACH from its weighted mean. A solution that is nearer is exact.

    A pull below the rounding of the weighted mean moves nothing: a point all of whose neighbours
    are in one place goes there.
    """
    out = np.empty(targets.shape)
    _place(targets, y, counts, ROUNDING * float(np.max(np.abs(y))), out)
    return out


@strict
def _weighted_means(distances, precision, y, counts, out):  # type: ignore[no-untyped-def]
    p = np.empty(distances.shape[1])
    for i in range(distances.shape[0]):
        total = _exponentials(p, _scaled(distances[i], -precision[i], p), counts)
        for k in range(y.shape[0]):
            out[i, k] = _weighted_sum(p, y[k]) / total


@strict
def _place(targets, y, counts, rounding, out):  # type: ignore[no-untyped-def]
    d, n = y.shape
    z = np.empty((d, n))
    q = np.empty(n)
    gradient = np.empty(d)
    hessian = np.empty((d, d))
    step = np.empty(d)
    for i in range(targets.shape[0]):
        for k in range(d):
            for j in range(n):
                z[k, j] = y[k, j] - targets[i, k]
        u = np.zeros(d)
        cost = _evaluate(z, counts, u, q, gradient, hessian)
        for _ in range(MAX_STEPS):
            if math.sqrt(_dot(gradient, gradient)) <= rounding:
                break
            _newton_step(gradient, hessian, step)
            decrement = -_dot(gradient, step)
            if not decrement > LAST_DECREMENT:
                u += step
                break
            cost = _descend(z, counts, u, cost, decrement, step, q, gradient, hessian)
        for k in range(d):
            out[i, k] = targets[i, k] + u[k]


@strict
def _descend(z, counts, u, cost, decrement, step, q, gradient, hessian):  # type: ignore[no-untyped-def]
    """Move u along a step, halved until the cost falls; evaluate there."""
    share = 1.0
    allowed = ROUNDING * (1.0 + abs(cost))
    while True:
        trial = u + share * step
        new = _evaluate(z, counts, trial, q, gradient, hessian)
        enough = new <= cost - SUFFICIENT_DECREASE * share * decrement + allowed
        if enough or share < SHORTEST_STEP:
            u[:] = trial
            return new
        share *= 0.5


@strict
def _evaluate(z, counts, u, q, gradient, hessian):  # type: ignore[no-untyped-def]
    """Return half of the cost at u, wall included; write its derivatives. q is for work."""
    d = u.size
    largest = _exponents(z, u, q)
    total = _exponentials(q, largest, counts)
    for k in range(d):
        gradient[k] = _weighted_sum(q, z[k]) / total
    for k in range(d):
        for m in range(k + 1):
            covariance = _weighted_product(q, z[k], gradient[k], z[m], gradient[m]) / total
            hessian[k, m] = 2.0 * covariance
    beyond = max(_dot(u, u) - REACH**2, 0.0)
    scale = REACH**-4
    for k in range(d):
        gradient[k] += scale * beyond**2 * u[k]
        hessian[k, k] += scale * beyond**2
        for m in range(k + 1):
            hessian[k, m] += 4.0 * scale * beyond * u[k] * u[m]
    return 0.5 * (largest + math.log(total)) + scale * beyond**3 / 6.0


@strict
def _newton_step(gradient, hessian, step):  # type: ignore[no-untyped-def]
    """Solve for the step by Cholesky's factors, written over the Hessian's lower half.

    Where q has no breadth the step would have no end: none is longer than REACH.
    """
    d = gradient.size
    trace = 0.0
    for k in range(d):
        trace += hessian[k, k]
    for k in range(d):
        hessian[k, k] += DAMPING * trace / d + SMALLEST
        for m in range(k + 1):
            left = hessian[k, m] - _dot(hessian[k, :m], hessian[m, :m])
            hessian[k, m] = math.sqrt(left) if m == k else left / hessian[m, m]
    for k in range(d):
        step[k] = (-gradient[k] - _dot(hessian[k, :k], step[:k])) / hessian[k, k]
    for k in range(d - 1, -1, -1):
        step[k] = (step[k] - _dot(hessian[k + 1 :, k], step[k + 1 :])) / hessian[k, k]
    length = math.sqrt(_dot(step, step))
    if length > REACH:
        for k in range(d):
            step[k] *= REACH / length


@strict
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(a.size):
        total += a[k] * b[k]
    return total


@summation
def _scaled(a, factor, out):  # type: ignore[no-untyped-def]
    """Write factor * a; return the largest."""
    largest = -np.inf
    for j in range(a.size):
        out[j] = factor * a[j]
        largest = max(largest, out[j])
    return largest


@summation
def _exponents(z, u, out):  # type: ignore[no-untyped-def]
    """Write z_j . (2 u - z_j), which is |u|^2 - |u - z_j|^2; return the largest."""
    out[:] = 0.0
    for k in range(u.size):
        row = z[k]
        twice = 2.0 * u[k]
        for j in range(out.size):
            out[j] += row[j] * (twice - row[j])
    largest = -np.inf
    for j in range(out.size):
        largest = max(largest, out[j])
    return largest


@summation
def _exponentials(x, largest, counts):  # type: ignore[no-untyped-def]
    """Replace x by exp(x - largest), as often as it counts, and return the sum."""
    total = 0.0
    for j in range(x.size):
        x[j] = exp_nonpositive(x[j] - largest)
        if counts is not None:
            x[j] *= counts[j]
        total += x[j]
    return total


@summation
def _weighted_sum(q, a):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(q.size):
        total += q[j] * a[j]
    return total


@summation
def _weighted_product(q, a, mean_a, b, mean_b):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(q.size):
        total += q[j] * (a[j] - mean_a) * (b[j] - mean_b)
    return total

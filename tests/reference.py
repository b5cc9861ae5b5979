"""SNE by the book: the answers that the package is held against. Shares no code with it.

The first part is plain loops over Python floats with exactly rounded sums; the second
differentiates the cost at 50 digits; the third is the first again in NumPy, for more points than
loops can take.
"""

import math

import mpmath
import numpy as np

# Plain loops. Arrays in and out; every sum is exactly rounded (math.fsum).


def squared_distances(X):
    return np.array([[_squared_distance(a, b) for b in X.tolist()] for a in X.tolist()])


def _squared_distance(a, b):
    return math.fsum((s - t) ** 2 for s, t in zip(a, b, strict=True))


def log_probabilities(squared, precision):
    """Return log p_{j|i} from squared distances and a precision per row; -inf on the diagonal."""
    return np.array(
        [
            _log_row(row, i, beta)
            for i, (row, beta) in enumerate(zip(squared.tolist(), precision, strict=True))
        ]
    )


def _log_row(row, own, beta):
    """log-sum-exp with the nearest distance taken off first."""
    nearest = min(d for j, d in enumerate(row) if j != own)
    exponents = [-beta * (d - nearest) if j != own else -math.inf for j, d in enumerate(row)]
    log_z = math.log(math.fsum(math.exp(e) for e in exponents))
    return [e - log_z for e in exponents]


def entropy(log_row):
    return -math.fsum(math.exp(e) * e for e in log_row if e > -math.inf)


def precision_for_perplexity(squared, perplexity):
    """Bisection on each row's entropy, down to neighbouring floats of log(precision)."""
    return np.array([_bisect(row, i, perplexity) for i, row in enumerate(squared.tolist())])


def _bisect(row, own, perplexity):
    others = [d for j, d in enumerate(row) if j != own]
    nearest = min(others)
    excess = math.fsum(d - nearest for d in others) / len(others)
    middle = -math.log(excess)
    low, high = middle - 50.0, middle + 50.0
    while low < (middle := (low + high) / 2) < high:
        if entropy(_log_row(row, own, math.exp(middle))) > math.log(perplexity):
            low = middle
        else:
            high = middle
    return math.exp(middle)


def conditional_probabilities(X, *, perplexity=None, sigma=None):
    squared = squared_distances(X)
    if sigma is None:
        precision = precision_for_perplexity(squared, perplexity)
    else:
        precision = 1.0 / np.broadcast_to(sigma, len(X)) ** 2
    return np.exp(log_probabilities(squared, precision))


def log_embedding_probabilities(Y):
    return log_probabilities(squared_distances(Y), [1.0] * len(Y))


def embedding_probabilities(Y):
    return np.exp(log_embedding_probabilities(Y))


def cost(P, Y):
    """C = sum p log(p / q), with log q taken before q can underflow."""
    log_q = log_embedding_probabilities(Y).tolist()
    return math.fsum(
        p * (math.log(p) - log_q[i][j])
        for i, row in enumerate(P.tolist())
        for j, p in enumerate(row)
        if p > 0.0
    )


def gradient(P, Y):
    """The double sum, 2 sum_j (y_i - y_j) (p_{j|i} - q_{j|i} + p_{i|j} - q_{i|j})."""
    n, d = Y.shape
    p, q, y = P.tolist(), embedding_probabilities(Y).tolist(), Y.tolist()
    return np.array(
        [
            [
                2.0
                * math.fsum(
                    (y[i][k] - y[j][k]) * (p[i][j] - q[i][j] + p[j][i] - q[j][i]) for j in range(n)
                )
                for k in range(d)
            ]
            for i in range(n)
        ]
    )


# The gradient a second time, from the cost alone.


def differentiated_gradient(P, Y):
    """Differentiate C(Y) = sum p log(p / q) at 50 digits, knowing no formula for its gradient."""
    with mpmath.workdps(50):
        step = mpmath.mpf(10) ** -16
        p = mpmath.matrix(P.tolist())
        y = mpmath.matrix(Y.tolist())
        result = np.empty(Y.shape)
        for i, k in np.ndindex(*Y.shape):
            centre = y[i, k]
            y[i, k] = centre + step
            above = _precise_cost(p, y)
            y[i, k] = centre - step
            below = _precise_cost(p, y)
            y[i, k] = centre
            result[i, k] = (above - below) / (2 * step)
    return result


def _precise_cost(p, y):
    total = mpmath.mpf(0)
    for i in range(y.rows):
        weights = {
            j: mpmath.exp(-mpmath.fsum((y[i, k] - y[j, k]) ** 2 for k in range(y.cols)))
            for j in range(y.rows)
            if j != i
        }
        z = mpmath.fsum(weights.values())
        total += mpmath.fsum(
            p[i, j] * mpmath.log(p[i, j] * z / weight) for j, weight in weights.items() if p[i, j]
        )
    return total


def central_differences(function, Y, step=1e-5):
    """Return the gradient of a scalar function of Y by central differences, to about step^2."""
    result = np.empty(Y.shape)
    for index in np.ndindex(*Y.shape):
        ends = []
        for sign in (1.0, -1.0):
            moved = Y.astype(np.float64)
            moved[index] += sign * step
            ends.append(function(moved))
        result[index] = (ends[0] - ends[1]) / (2.0 * step)
    return result


# The same in NumPy.


def vectorised_squared_distances(X):
    """By differences, one feature at a time."""
    squared = np.zeros((len(X), len(X)))
    for column in X.T:
        squared += np.subtract.outer(column, column) ** 2
    return squared


def vectorised_log_probabilities(squared, precision):
    exponents = np.array(squared, dtype=np.float64)
    np.fill_diagonal(exponents, np.inf)
    exponents -= exponents.min(axis=1, keepdims=True)
    exponents *= -np.reshape(precision, (-1, 1))
    return exponents - np.log(np.exp(exponents).sum(axis=1, keepdims=True))


def vectorised_conditional_probabilities(X, perplexity):
    """Return P by bisection on the entropy of all rows at once."""
    squared = vectorised_squared_distances(X)
    others = squared[~np.eye(len(X), dtype=bool)].reshape(len(X), -1)
    middle = -np.log(np.mean(others - others.min(axis=1, keepdims=True), axis=1))
    low, high = middle - 50.0, middle + 50.0
    for _ in range(60):
        middle = (low + high) / 2
        log_p = vectorised_log_probabilities(squared, np.exp(middle))
        spread = row_entropies(np.exp(log_p)) > math.log(perplexity)
        low, high = np.where(spread, middle, low), np.where(spread, high, middle)
    return np.exp(log_p)


def row_entropies(P):
    """Return -sum_j p log p of each row, in nats, with 0 log 0 = 0."""
    return -np.sum(P * np.log(np.where(P > 0.0, P, 1.0)), axis=1)


def vectorised_evaluation(P, Y):
    """Return the cost and gradient of Y."""
    log_q = vectorised_log_probabilities(vectorised_squared_distances(Y), np.ones(len(Y)))
    kept = P > 0.0
    value = np.sum(P[kept] * (np.log(P[kept]) - log_q[kept]))
    excess = P - np.exp(log_q)
    excess += excess.T
    return value, 2.0 * np.sum((Y[:, None] - Y) * excess[:, :, None], axis=1)


# How errors of a gradient are measured.


def gradient_scale(Y):
    """Return 1 + sum_j (q_{j|i} + q_{i|j}) |y_i - y_j| of each row.

    Errors of a row are measured against it: relative to the largest entry they would be 0 / 0 for
    equal points, and would say nothing of the others beside an outlier.
    """
    squared = vectorised_squared_distances(Y)
    q = np.exp(vectorised_log_probabilities(squared, np.ones(len(Y))))
    return 1.0 + np.sum((q + q.T) * np.sqrt(squared), axis=1)


def gradient_error(actual, expected, Y):
    """Return the largest error of a row, in units of `gradient_scale`."""
    return np.max(np.linalg.norm(actual - expected, axis=1) / gradient_scale(Y))

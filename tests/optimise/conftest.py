"""Functions to minimise: two textbook ones, and SNE on small data, written plainly."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dasksne.kernels.calibration import calibrate
from dasksne.optimise.state import step
from dasksne.types import Evaluation


def quadratic(y):
    """A bowl whose curvature grows 100-fold from the first point to the last."""
    weight = np.geomspace(1.0, 100.0, len(y))[:, np.newaxis]
    return Evaluation(float(np.sum(weight * (y - 1.0) ** 2)), 2.0 * weight * (y - 1.0))


def rosenbrock(y):
    """The curved valley, one per row: minimum 0 at (1, 1)."""
    a, b = y[:, 0], y[:, 1]
    cost = np.sum(100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2)
    gradient = np.stack([-400.0 * a * (b - a**2) - 2.0 * (1.0 - a), 200.0 * (b - a**2)], axis=1)
    return Evaluation(float(cost), gradient)


class PlainSNE:
    """SNE's cost and gradient with all pairs in memory."""

    def __init__(self, x, perplexity):
        distances = squared_distances(x)
        self.n_points = len(x)
        found = calibrate(distances, 0, perplexity)
        excess = distances - found.nearest[:, np.newaxis]
        log_p = -found.precision[:, np.newaxis] * excess - found.log_normaliser[:, np.newaxis]
        p = np.exp(log_p)
        np.fill_diagonal(p, 0.0)
        self.p_log_p = float(np.sum(p * np.where(p > 0.0, log_p, 0.0)))
        self.affinity = p + p.T
        self.degrees = self.affinity.sum(axis=1)

    def __call__(self, y):
        distances = squared_distances(y)
        np.fill_diagonal(distances, np.inf)
        nearest = distances.min(axis=1)
        kernel = np.exp(nearest[:, np.newaxis] - distances)
        log_z = np.log(kernel.sum(axis=1)) - nearest
        q = np.exp(-distances - log_z[:, np.newaxis])
        attraction = self.laplacian(y)
        both = q + q.T
        repulsion = both.sum(axis=1)[:, np.newaxis] * y - both @ y
        cost = self.p_log_p + float(np.sum(y * attraction)) + float(np.sum(log_z))
        return Evaluation(cost, 2.0 * (attraction - repulsion))

    def laplacian(self, v):
        return self.degrees[:, np.newaxis] * v - self.affinity @ v


def squared_distances(y):
    return np.sum((y[:, np.newaxis, :] - y[np.newaxis, :, :]) ** 2, axis=2)


def run(optimiser, objective, y, through: Callable = lambda state: state):
    """All states from a start to the end; `through` is applied to each before the next step."""
    states = [optimiser.start(y, objective(y))]
    while states[-1].stopped is None:
        states.append(step(optimiser, through(states[-1]), objective))
    return states


def never_rises(states):
    return all(b.cost <= a.cost + 1e-8 * abs(a.cost) for a, b in pairwise(states))


@pytest.fixture(scope="session")
def digits():
    return load_digits().data[:150]


@pytest.fixture(scope="session")
def sne(digits):
    return PlainSNE(digits, 20.0)


@pytest.fixture
def random_map():
    return np.random.default_rng(0).standard_normal((150, 2))

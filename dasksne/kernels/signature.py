"""A hash of what the kernels make of a fixed input: equal hashes promise equal bits."""

import hashlib
from functools import cache

import numpy as np

from dasksne.kernels.attraction import Places, attraction, sparse_attraction
from dasksne.kernels.calibration import calibrate
from dasksne.kernels.components import covariance_product
from dasksne.kernels.distances import squared_distances
from dasksne.kernels.fourier import repulsion_fourier
from dasksne.kernels.isolated import joined
from dasksne.kernels.probabilities import conditional_probabilities, joint_probabilities
from dasksne.kernels.repulsion import first_pass, second_pass

N_POINTS = 150
N_FEATURES = 7
PERPLEXITY = 20.0


@cache
def kernels_hash() -> str:
    """Return the SHA-256 of distances, P, S, both attractions, both repulsions and a BLAS product.

    Library versions and CPU features change bits; so do threads of BLAS, which the caller holds at
    one as the executors do.
    """
    # Made of integers: no library's random numbers or functions are in it.
    x = (np.arange(N_POINTS * N_FEATURES) * 7919 % 1009).reshape(N_POINTS, N_FEATURES) / 1009.0
    rows = slice(0, N_POINTS)
    distances = np.empty((N_POINTS, N_POINTS))
    squared_distances(x, x, distances)
    found = calibrate(distances, 0, PERPLEXITY)
    p, s = np.empty_like(distances), np.empty_like(distances)
    conditional_probabilities(distances, 0, found, p)
    joint_probabilities(distances, distances, rows, rows, found, s)
    places = Places(8.0 * x[:, :2])
    y = places.columns
    force = np.zeros((N_POINTS, 2))
    attraction(s, np.ascontiguousarray(y.T), y, rows, force)
    indices = np.tile(np.arange(N_POINTS, dtype=np.int32), N_POINTS)
    indptr = N_POINTS * np.arange(N_POINTS + 1)
    sparse_attraction(s.ravel(), indices, indptr, rows, places, force)
    first = first_pass(rows, y)
    push = second_pass(first, y, first.weights, joined([first.isolated]))
    by_fourier = repulsion_fourier(np.ascontiguousarray(y.T))
    product = covariance_product(x, np.mean(x, axis=0), np.ascontiguousarray(x[:N_FEATURES].T))
    digest = hashlib.sha256()
    for values in (distances, *found, p, s, force, first.log_z, push, *by_fourier, product):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()

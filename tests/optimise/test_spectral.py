import numpy as np
import pytest

from dasksne.optimise.spectral import MAX_PRODUCTS, spectral_start


def start(S, n_components=2, *, seed=0, **options):
    first = np.random.default_rng(seed).normal(size=(len(S), n_components))
    return spectral_start(lambda v: S @ v, S.sum(axis=1), first, **options)


def eigenvalues(S, y):
    """Return those of the columns, and how far these are from being eigenvectors."""
    degrees = S.sum(axis=1)
    values, residuals = [], []
    for column in y.T:
        # The trivial vector is constant, and others are orthogonal to it in the degrees' metric.
        v = column - np.average(column, weights=degrees)
        value = v @ S @ v / (v @ (degrees * v))
        rest = (S @ v - value * degrees * v) / np.sqrt(degrees)
        values.append(value)
        residuals.append(np.linalg.norm(rest) / np.linalg.norm(np.sqrt(degrees) * v))
    return np.array(values), np.array(residuals)


def test_columns_are_eigenvectors_of_the_affinities(sne):
    S, degrees = sne.affinity, sne.degrees
    values, residuals = eigenvalues(S, start(S))
    assert np.all(residuals < 1e-3)
    largest = np.linalg.eigvalsh(S / np.sqrt(np.outer(degrees, degrees)))[::-1]
    for value in values:
        assert np.min(np.abs(largest[1:7] - value)) < 1e-5


def test_columns_are_centred_and_of_unit_size(sne):
    y = start(sne.affinity)
    np.testing.assert_allclose(y.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=0), 1.0)


def test_a_ring_is_drawn_as_a_ring():
    # The first eigenvalue is double: one vector at a time would find only one of the two.
    S = np.roll(np.eye(30), 1, axis=1)
    y = start(S + S.T)
    np.testing.assert_allclose(np.hypot(*y.T), np.sqrt(2.0), rtol=1e-3)


def test_same_first_columns_same_bits(sne):
    first = start(sne.affinity, seed=3)
    np.testing.assert_array_equal(first, start(sne.affinity, seed=3))


def test_the_search_ends_sooner_from_a_smooth_map(sne):
    def products(first):
        calls = []

        def product(v):
            calls.append(v.shape)
            return sne.affinity @ v

        spectral_start(product, sne.degrees, first)
        assert set(calls) == {(150, 2)}
        return len(calls)

    rough = np.random.default_rng(0).normal(size=(150, 2))
    smooth = start(sne.affinity) + 1e-3 * rough
    assert products(smooth) < products(rough) < MAX_PRODUCTS / 2


def test_calls_no_more_products_than_allowed(sne):
    calls = []

    def product(v):
        calls.append(v.shape)
        return sne.affinity @ v

    first = np.random.default_rng(0).normal(size=(150, 2))
    y = spectral_start(product, sne.degrees, first, max_products=7)
    assert calls == [(150, 2)] * 7
    assert y.shape == (150, 2)


def test_far_clusters_do_not_hold_the_search_up(rng):
    """Their first eigenvectors are there at once; those along a cluster would take long."""
    strip = np.column_stack([np.linspace(0.0, 40.0, 60), np.zeros(60)])
    X = np.concatenate([100.0 * k + strip + 0.2 * rng.normal(size=(60, 2)) for k in range(12)])
    S = np.exp(-np.sum((X[:, np.newaxis] - X) ** 2, axis=2))
    np.fill_diagonal(S, 0.0)
    products = []

    def product(v):
        products.append(v.shape)
        return S @ v

    places = np.repeat(rng.normal(size=(12, 2)), 60, axis=0)
    y = spectral_start(product, S.sum(axis=1), places + 1e-6 * rng.normal(size=(720, 2)))
    assert len(products) <= 20
    spread = y.reshape(12, 60, 2).std(axis=1).max()
    assert spread < 0.2


def test_parts_that_do_not_touch():
    S = np.kron(np.eye(3), np.ones((5, 5)) - np.eye(5))
    y = start(S)
    assert np.all(np.isfinite(y))
    means = y.reshape(3, 5, 2).mean(axis=1)
    assert min(np.linalg.norm(means[i] - means[j]) for i in range(3) for j in range(i)) > 0.5


def test_a_strip_is_laid_out_by_length_and_width():
    length, width = (
        axis.ravel() for axis in np.meshgrid(np.linspace(0, 4, 40), np.linspace(0, 1.3, 13))
    )
    squares = (length[:, np.newaxis] - length) ** 2 + (width[:, np.newaxis] - width) ** 2
    S = np.exp(-squares / 0.1)
    np.fill_diagonal(S, 0.0)

    def correlation(y):
        return [abs(np.corrcoef(y[:, k], side)[0, 1]) for k, side in enumerate((length, width))]

    y = start(S)
    assert min(correlation(y)) > 0.9
    assert np.all(eigenvalues(S, y)[1] < 1e-3)


@pytest.mark.parametrize("n", [3, 4, 6])
def test_spectral_start_of_very_few_points(n):
    first = np.random.default_rng(0).normal(size=(n, 2))
    y = spectral_start(lambda v: v.sum(axis=0) - v, np.full(n, n - 1.0), first)
    assert y.shape == (n, 2)
    assert np.all(np.isfinite(y))

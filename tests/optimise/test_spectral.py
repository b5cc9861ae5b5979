import numpy as np
import pytest

from dasksne.optimise.spectral import laplacian_eigenmap, spectral_start


def eigenmap(S, n_components, **options):
    return laplacian_eigenmap(lambda v: S @ v, S.sum(axis=1), n_components, **options)


def expected(S, n_components):
    root = np.sqrt(S.sum(axis=1))
    values, vectors = np.linalg.eigh(S / np.outer(root, root))
    return values[::-1][1 : n_components + 1], (vectors / root[:, np.newaxis])[:, ::-1][
        :, 1 : n_components + 1
    ]


def test_spans_the_eigenvectors_of_the_affinities(sne):
    y = eigenmap(sne.affinity, 2, max_products=100)
    _, truth = expected(sne.affinity, 2)
    truth = (truth - truth.mean(axis=0)) / truth.std(axis=0)
    for k in range(2):
        assert abs(np.mean(y[:, k] * truth[:, k])) > 1 - 1e-5


def test_columns_are_centred_and_of_unit_size(sne):
    y = eigenmap(sne.affinity, 2)
    np.testing.assert_allclose(y.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=0), 1.0)


def test_a_ring_is_drawn_as_a_ring():
    # The first eigenvalue is double: one vector at a time would find only one of the two.
    S = np.roll(np.eye(30), 1, axis=1)
    y = eigenmap(S + S.T, 2)
    np.testing.assert_allclose(np.hypot(*y.T), np.sqrt(2.0), rtol=1e-3)


def test_same_seed_same_bits(sne):
    first = eigenmap(sne.affinity, 2, seed=3)
    np.testing.assert_array_equal(first, eigenmap(sne.affinity, 2, seed=3))


def test_calls_no_more_products_than_allowed(sne):
    calls = []

    def product(v):
        calls.append(v.shape)
        return sne.affinity @ v

    laplacian_eigenmap(product, sne.degrees, 2, max_products=7)
    assert calls == [(150, 3)] * 7


def test_parts_that_do_not_touch():
    S = np.kron(np.eye(3), np.ones((5, 5)) - np.eye(5))
    y = eigenmap(S, 2)
    assert np.all(np.isfinite(y))
    means = y.reshape(3, 5, 2).mean(axis=1)
    assert min(np.linalg.norm(means[i] - means[j]) for i in range(3) for j in range(i)) > 0.5


@pytest.mark.parametrize("n", [3, 4])
def test_fewer_points_than_products(n):
    y = eigenmap(np.ones((n, n)) - np.eye(n), 2)
    assert y.shape == (n, 2)
    assert np.all(np.isfinite(y))


def test_a_strip_is_laid_out_by_length_and_width():
    length, width = (
        axis.ravel() for axis in np.meshgrid(np.linspace(0, 4, 40), np.linspace(0, 1.3, 13))
    )
    squares = (length[:, np.newaxis] - length) ** 2 + (width[:, np.newaxis] - width) ** 2
    S = np.exp(-squares / 0.1)
    np.fill_diagonal(S, 0.0)

    def correlation(y):
        return [abs(np.corrcoef(y[:, k], side)[0, 1]) for k, side in enumerate((length, width))]

    degrees = S.sum(axis=1)
    assert min(correlation(spectral_start(lambda v: S @ v, degrees, 2))) > 0.9
    assert correlation(laplacian_eigenmap(lambda v: S @ v, degrees, 2))[1] < 0.1


@pytest.mark.parametrize("n", [3, 4, 6])
def test_spectral_start_of_very_few_points(n):
    y = spectral_start(lambda v: v.sum(axis=0) - v, np.full(n, n - 1.0), 2)
    assert y.shape == (n, 2)
    assert np.all(np.isfinite(y))

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, make_swiss_roll

import dasksne
from dasksne.executor.threads import ThreadExecutor
from dasksne.source import ArrayRows, Features
from dasksne.staging import look_at_array
from dasksne.starts import RANDOM_SCALE, pca_start, random_start


def start(X, n_components=2, n_threads=2, seed=0):
    look = look_at_array(X, "euclidean")
    with ThreadExecutor(n_threads) as executor:
        source = Features(ArrayRows(X), look.exponent)
        return pca_start(executor, source, look.mean, n_components, seed)


def principal_scores(X, n_components):
    centred = X - X.mean(axis=0)
    scores = centred @ np.linalg.svd(centred, full_matrices=False)[2][:n_components].T
    return scores / scores[:, 0].std()


def up_to_signs(Y, expected):
    return Y * np.sign(np.sum(Y * expected, axis=0))


@pytest.mark.parametrize("load", [load_iris, load_digits])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_principal_components(load, n_components):
    X = load().data
    Y, expected = start(X, n_components), principal_scores(X, n_components)
    np.testing.assert_allclose(up_to_signs(Y, expected), expected, atol=1e-5)
    assert Y[:, 0].std() == pytest.approx(1.0)


def test_more_features_than_a_chunk_has_bytes_for(rng, monkeypatch):
    monkeypatch.setattr("dasksne.source.CHUNK_BYTES", 64 * 8 * 30)
    X = rng.normal(size=(200, 30)) * np.geomspace(1.0, 100.0, 30)
    expected = principal_scores(X, 2)
    np.testing.assert_allclose(up_to_signs(start(X), expected), expected, atol=1e-5)


def test_the_same_bits_on_any_number_of_threads(rng):
    X = rng.normal(size=(300, 20))
    np.testing.assert_array_equal(start(X, n_threads=1), start(X, n_threads=4))


@pytest.mark.parametrize("exponent", [400, -400, 1000])
def test_any_unit(rng, exponent):
    X = rng.normal(size=(100, 5))
    np.testing.assert_allclose(start(np.ldexp(X, exponent)), start(X), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("seed", range(4))
def test_signs_are_those_of_the_largest_loading(sign, seed):
    X = sign * np.random.default_rng(seed).normal(size=(100, 4)) * [0.1, 10.0, 1.0, 0.1]
    Y = start(X)
    assert np.corrcoef(Y[:, 0], X[:, 1])[0, 1] > 0.9
    assert np.corrcoef(Y[:, 1], X[:, 2])[0, 1] > 0.9


def test_columns_that_the_data_does_not_have_are_random(rng):
    """Were they zero, no force would ever leave them."""
    Y = start(rng.normal(size=(100, 1)), n_components=3, seed=5)
    assert Y.shape == (100, 3)
    np.testing.assert_array_equal(Y[:, 1:], random_start(100, 2, 5))


def test_equal_points_start_in_one_place():
    Y = start(np.full((50, 4), 0.1))
    np.testing.assert_array_equal(Y, Y[:1].repeat(50, axis=0))


def test_a_spectral_start_does_not_depend_on_the_seed():
    X, _ = make_swiss_roll(1200, random_state=0)
    model = dasksne.SNE(perplexity=10, init="spectral", annealing=None, max_iter=0)
    first, second = (model.set_params(random_state=s).fit_transform(X) for s in (0, 1))
    np.testing.assert_array_equal(first, second)


def test_a_random_start_is_a_function_of_its_seed():
    Y = random_start(500, 2, seed=3)
    np.testing.assert_array_equal(random_start(500, 2, seed=3), Y)
    assert not np.array_equal(random_start(500, 2, seed=4), Y)
    assert Y.std() == pytest.approx(RANDOM_SCALE, rel=0.1)

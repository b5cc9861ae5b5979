"""Affinities of one's own: P as it is given, dense or sparse, in memory, lazy or in Zarr."""

import dask
import dask.array as da
import numpy as np
import pytest
import reference
import scipy.sparse
import zarr
from engine import objective_of
from same import assert_same_map
from sklearn.base import clone

import dasksne
from dasksne import metrics
from dasksne.errors import InvalidInputError, StoreError
from dasksne.run import Run

N = 150
DEGREE = 9


@pytest.fixture
def weights(rng):
    """Affinities of any size and of some pairs only; that of i, j is not that of j, i."""
    given = rng.uniform(size=(N, N)) ** 8 * rng.lognormal(sigma=3.0, size=(N, 1))
    given[rng.uniform(size=(N, N)) > DEGREE / N] = 0.0
    given[np.arange(N), np.arange(N) - 1] = 0.5
    np.fill_diagonal(given, 0.0)
    return given


def normalised(weights):
    return weights / weights.sum(axis=1, keepdims=True)


def sne(**options):
    given = {"metric": "affinities", "max_iter": 8, "random_state": 3, "block_rows": 64}
    return dasksne.SNE(**{**given, **options})


# Cost and gradient


@pytest.mark.parametrize(
    ("wrap", "p_storage"),
    [
        (np.asarray, "memory"),
        (np.asarray, "zarr"),
        (np.asarray, "recompute"),
        (scipy.sparse.csr_array, "memory"),
    ],
)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_they_are_those_of_the_formulas(rng, weights, tmp_path, wrap, p_storage, d):
    Y = rng.normal(size=(N, d))
    run = Run.locate(tmp_path / "run.zarr")
    run.create(overwrite=False)
    layout = {"p_storage": p_storage, "block_rows": 64, "shards": 2, "n_components": d}
    with objective_of(wrap(weights), metric="affinities", run=run, **layout) as objective:
        found = objective(Y)
    cost, gradient = reference.vectorised_evaluation(normalised(weights), Y)
    assert found.cost == pytest.approx(cost, rel=1e-12)
    assert reference.gradient_error(found.gradient, gradient, Y) <= 1e-12


@pytest.mark.parametrize("wrap", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_rows_may_have_any_unit(rng, weights, wrap, scale):
    weights[::2] *= scale
    Y = rng.normal(size=(N, 2))
    with objective_of(wrap(weights), metric="affinities") as objective:
        found = objective(Y)
    P = np.exp(np.log(np.where(weights, weights, 1.0)) - np.log(weights.max(axis=1))[:, None])
    P = normalised(np.where(weights, P, 0.0))
    cost, gradient = reference.vectorised_evaluation(P, Y)
    assert found.cost == pytest.approx(cost, rel=1e-11)
    assert reference.gradient_error(found.gradient, gradient, Y) <= 1e-11


@pytest.mark.parametrize("wrap", [np.asarray, scipy.sparse.csr_array])
def test_entries_that_are_nothing_beside_others_of_a_row(weights, wrap):
    weights[0, 1], weights[0, 2], weights[3, :3] = 1e200, 1e-200, 5e-324
    found = sne().fit(wrap(weights))
    assert np.isfinite(found.kl_divergence_)
    assert np.all(np.isfinite(found.embedding_))
    assert found.n_iter_ > 0


def test_those_of_a_perplexity_give_the_same_map(rng):
    X = rng.normal(size=(N, 4))
    init = rng.normal(size=(N, 2))
    P = dasksne.conditional_probabilities(X, perplexity=12)
    expected = dasksne.SNE(perplexity=12, init=init, max_iter=8).fit(X)
    found = sne(init=init).fit(P)
    np.testing.assert_allclose(found.embedding_, expected.embedding_, atol=1e-6)
    assert found.kl_divergence_ == pytest.approx(expected.kl_divergence_, rel=1e-10)


@pytest.mark.parametrize("init", ["pca", "spectral", "best"])
def test_they_start_from_their_own_spectrum(weights, init):
    model = sne(init=init, max_iter=0).fit(weights)
    assert set(model.history_["stage"]) == set()
    assert model.kl_divergence_ < 0.98 * sne(init="random", max_iter=0).fit(weights).kl_divergence_


# Where they are


def test_wherever_they_are(weights, tmp_path):
    path = tmp_path / "P.zarr"
    zarr.save_array(path, weights)
    expected = sne().fit(weights)
    for given in (da.from_array(weights, chunks=(40, 70)), zarr.open_array(path, mode="r")):
        assert_same_map(sne().fit(given), expected)
    for p_storage in ("zarr", "recompute"):
        assert_same_map(sne(p_storage=p_storage).fit(weights), expected)


@pytest.mark.parametrize("kind", ["csr_array", "csc_matrix", "coo_array"])
def test_sparse_ones_have_the_same_bits_on_any_threads(weights, kind):
    given = getattr(scipy.sparse, kind)(weights)
    expected = sne().fit(scipy.sparse.csr_array(weights))
    for scheduler in ("sync", "threads"):
        with dask.config.set(scheduler=scheduler, num_workers=3):
            assert_same_map(sne().fit(given), expected)
    dense = sne().fit(weights)
    np.testing.assert_allclose(expected.embedding_, dense.embedding_, atol=1e-6)
    assert expected.kl_divergence_ == pytest.approx(dense.kl_divergence_, rel=1e-10)


def test_what_is_sparse_may_be_disordered(weights):
    """With entries twice, zeros that are entries, and columns in any order; it stays as it is."""
    expected = sne().fit(scipy.sparse.csr_array(weights))
    row, column = np.nonzero(weights)
    data = np.append(np.tile(0.5 * weights[row, column], 2), 0.0)
    rows, columns = np.append(np.tile(row, 2), 3), np.append(np.tile(column, 2), 3)
    order = np.argsort(rows, kind="stable")
    indptr = np.searchsorted(rows[order], np.arange(N + 1))
    twice = scipy.sparse.csr_array((data[order], columns[order], indptr), shape=(N, N))
    before = twice.copy()
    assert_same_map(sne().fit(twice), expected)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(twice, part), getattr(before, part))


def test_a_sparse_plan_is_one_of_what_is_there(weights, tmp_path):
    given = scipy.sparse.csr_array(weights)
    plan = sne(store=tmp_path / "run.zarr").plan(given)
    assert plan.p_storage == "memory"
    assert plan.kept_share == given.nnz / (N * (N - 1))
    size = given.data.nbytes + given.indices.nbytes + given.indptr.nbytes
    assert plan.disk_bytes == size
    assert sne(store=tmp_path / "run.zarr").plan(weights).disk_bytes == 8 * N * N


# The run


@pytest.mark.parametrize("wrap", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("when", [0, 3])
def test_a_run_keeps_them_and_goes_on(weights, tmp_path, wrap, when):
    given, store = wrap(weights), tmp_path / "run.zarr"
    expected = sne().fit(given)

    def interrupt(event):
        if event.iteration > when:
            raise KeyboardInterrupt

    with dask.config.set(scheduler="sync"), pytest.raises(KeyboardInterrupt):
        sne(store=store, callbacks=interrupt).fit(given)
    found = dasksne.resume(store)
    assert_same_map(found, expected)
    run = dasksne.open_run(store)
    np.testing.assert_allclose(run.P.compute(), normalised(weights), rtol=1e-11)
    np.testing.assert_array_equal(run.X.compute(), weights)
    assert not run.run.has("P")
    for costs in (
        run.kl_per_point(),
        metrics.kl_per_point(weights, run.embedding, metric="affinities"),
    ):
        assert costs.sum() == pytest.approx(found.kl_divergence_, rel=1e-10)
    for model in (found, expected):
        with pytest.raises(InvalidInputError, match="made from affinities, and new points have no"):
            model.transform(weights)


def test_the_nearest_points_are_those_with_the_largest(rng):
    X, Y = rng.normal(size=(N, 4)), rng.normal(size=(N, 2))
    P = dasksne.conditional_probabilities(X, perplexity=30)
    for judge in (metrics.trustworthiness, metrics.continuity, metrics.neighbors_kept):
        assert judge(P, Y, metric="affinities") == judge(X, Y)


def test_other_affinities_in_a_run_are_found_out(weights, tmp_path):
    store = tmp_path / "run.zarr"

    def interrupt(_event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sne(store=store, callbacks=interrupt).fit(scipy.sparse.csr_array(weights))
    data = Run.locate(store).read("X/0/data")
    Run.locate(store).write("X/0/data", slice(None), data[::-1])
    with pytest.raises(StoreError, match="is not what it was when the run began"):
        dasksne.resume(store)


@pytest.mark.parametrize("indices", [[10**6, 1], [2, 1]], ids=["too large", "descending"])
def test_a_store_that_is_no_sparse_matrix(weights, tmp_path, indices):
    """Whoever made it gave it checksums: what is between its indices would be read and written."""
    run = Run.locate(tmp_path / "run.zarr")
    sne(store=run.url).fit(scipy.sparse.csr_array(weights))
    run.write("X/0/indices", slice(0, 2), np.array(indices, dtype=np.int32))
    for read in (dasksne.open_run(run.url).X.compute, lambda: dasksne.resume(run.url)):
        with pytest.raises(StoreError, match="is no sparse matrix"):
            read()


# What is refused


def test_they_are_pairwise():
    tags = sne().__sklearn_tags__().input_tags
    assert tags.pairwise
    assert tags.sparse
    assert clone(sne()).get_params() == sne().get_params()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"perplexity": 9.0}, "perplexity does not go with metric='affinities': X is P already"),
        ({"sigma": 1.0}, "sigma does not go with metric='affinities'"),
        ({"sigma": np.ones(N)}, "sigma does not go with metric='affinities'"),
        ({"tail_mass": 1e-3}, "tail_mass=0.001 does not go with metric='affinities'"),
        ({"save": ("distances",)}, "affinities say nothing of distances"),
    ],
    ids=str,
)
def test_options_that_do_not_go_with_them(weights, options, message):
    with pytest.raises(InvalidInputError, match=message):
        sne(**options).fit(weights)


@pytest.mark.parametrize("wrap", [np.asarray, scipy.sparse.csr_array, da.from_array])
@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ((4, 7), -0.5, r"affinities must not be negative: X\[4, 7\] = -0.5"),
        ((5, 5), 0.25, r"affinities of points to themselves must be zero: X\[5, 5\] = 0.25"),
        ((6, 2), np.nan, "NaN or infinity in 1 of its 150 rows, first in row 6"),
        ((6, 2), np.inf, "NaN or infinity in 1 of its 150 rows, first in row 6"),
        (8, 0.0, "X is zero in row 8: a point without affinities"),
    ],
)
def test_values_that_are_no_affinities(weights, wrap, where, value, message):
    weights[where] = value
    with pytest.raises(InvalidInputError, match=message):
        sne().fit(wrap(weights))


def test_they_are_square(weights):
    for given in (weights[1:], scipy.sparse.csr_array(weights[1:])):
        with pytest.raises(InvalidInputError, match=r"shape \(149, 150\); affinities are a square"):
            sne().fit(given)


@pytest.mark.parametrize("p_storage", ["zarr", "recompute"])
def test_sparse_ones_are_in_memory(weights, p_storage):
    for ask in (sne(p_storage=p_storage).fit, sne(p_storage=p_storage).plan):
        with pytest.raises(InvalidInputError, match="with sparse affinities: P is in memory"):
            ask(scipy.sparse.csr_array(weights))

import math

import dask
import dask.array as da
import numpy as np
import pytest
import reference
import zarr

import dasksne
from dasksne.errors import StoreError
from dasksne.job import HISTORY
from dasksne.run import Run

PERPLEXITY = 8.0


@pytest.fixture
def data(rng):
    return rng.normal(size=(150, 5))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "run.zarr"


def fit(X, store, **options):
    given = {"perplexity": PERPLEXITY, "max_iter": 6, "block_rows": 64, "annealing": None}
    return dasksne.SNE(store=store, **{**given, **options}).fit(X)


def test_a_run_is_read_with_nothing_but_zarr_and_dask(data, store):
    model = fit(data, store, save=("distances", "Q"))
    group = zarr.open_group(store, mode="r")
    P, Q, D = (da.from_zarr(group[name]) for name in ("P", "Q", "distances"))
    for pairs in (P, Q):
        np.testing.assert_allclose(pairs.sum(axis=1).compute(), 1.0, rtol=1e-12)
        np.testing.assert_array_equal(da.diag(pairs).compute(), 0.0)
    np.testing.assert_allclose(
        reference.row_entropies(P.compute()), math.log(PERPLEXITY), atol=1e-10
    )
    expected = reference.vectorised_conditional_probabilities(data, PERPLEXITY)
    np.testing.assert_allclose(P.compute(), expected, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(
        Q.compute(), reference.embedding_probabilities(model.embedding_), rtol=1e-11, atol=1e-300
    )
    np.testing.assert_allclose(D.compute(), np.sqrt(reference.squared_distances(data)), rtol=1e-13)
    np.testing.assert_array_equal(group["X"][:], data)
    np.testing.assert_array_equal(group["embedding"][:], model.embedding_)
    assert group.attrs["dasksne"]["status"] == "finished"
    assert float(dasksne.kl_divergence(P, Q)) == pytest.approx(model.kl_divergence_, rel=1e-10)


def test_precision_and_normaliser_give_p(data, store):
    fit(data, store)
    group = zarr.open_group(store, mode="r")
    squared = reference.squared_distances(data)
    excess = squared - group["nearest"][:][:, None]
    exponents = group["precision"][:][:, None] * excess + group["normaliser"][:][:, None]
    P = np.exp(-exponents)
    np.fill_diagonal(P, 0.0)
    np.testing.assert_allclose(group["P"][:], P, rtol=1e-11)


def test_open_run_gives_the_same(data, store):
    model = fit(data, store, save=("distances", "Q"))
    run, group = dasksne.open_run(store), zarr.open_group(store, mode="r")
    for name in ("X", "P", "Q", "distances"):
        lazy = getattr(run, name)
        assert isinstance(lazy, da.Array)
        np.testing.assert_array_equal(lazy.compute(), group[name][:])
    for name in ("precision", "embedding"):
        np.testing.assert_array_equal(getattr(run, name), group[name][:])
    assert set(run.history) == set(HISTORY)
    for name, column in model.history_.items():
        np.testing.assert_array_equal(run.history[name], column)
    assert run.status == "finished"
    assert run.parameters["perplexity"] == PERPLEXITY
    assert run.summary["kl_divergence"] == model.kl_divergence_


@pytest.mark.parametrize("metric", ["euclidean", "precomputed"])
@pytest.mark.parametrize("exponent", [0, 450])
def test_p_that_is_not_kept_is_computed(data, tmp_path, metric, exponent):
    if metric == "precomputed":
        data = np.sqrt(reference.squared_distances(data))
    data = np.ldexp(data, exponent)
    kept, computed = tmp_path / "kept.zarr", tmp_path / "computed.zarr"
    fit(data, kept, metric=metric)
    fit(data, computed, metric=metric, p_storage="recompute")
    assert not Run.locate(computed).has("P")
    P = dasksne.open_run(computed).P
    assert P.shape == (150, 150)
    assert P.dtype == np.float64
    for chosen in (np.s_[:], np.s_[70:75, ::3]):
        np.testing.assert_array_equal(P[chosen], dasksne.open_run(kept).P[chosen].compute())


@pytest.mark.parametrize("p_storage", ["memory", "recompute"])
@pytest.mark.usefixtures("nothing_computes")
def test_nothing_is_computed_until_it_is_asked_for(data, store, p_storage):
    with dask.config.set(scheduler="sync"):
        fit(data, store, p_storage=p_storage)
    run = dasksne.open_run(store)
    assert run.P[:3].shape == (3, 150)
    assert run.X.shape == (150, 5)


def test_looking_changes_nothing(data, store):
    fit(data, store)
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    run = dasksne.open_run(store)
    run.P.compute()
    run.history  # noqa: B018
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


@pytest.mark.parametrize("p_storage", ["zarr", "recompute"])
def test_a_run_that_replaced_another_has_other_keys(data, store, p_storage):
    fit(data, store, p_storage=p_storage)
    first = dasksne.open_run(store)
    names = first.X.name, first.P.name
    fit(2.0 * data, store, p_storage=p_storage, overwrite=True)
    second = dasksne.open_run(store)
    assert not {second.X.name, second.P.name} & set(names)


def test_what_is_not_there_is_named(data, store):
    fit(data, store)
    run = dasksne.open_run(store)
    with pytest.raises(StoreError, match="has no Q; its status is 'finished'"):
        run.Q  # noqa: B018


def test_a_run_under_way_may_be_looked_at(data, store):
    seen = {}

    def look(_):
        run = dasksne.open_run(store)
        seen.update(status=run.status, X=run.X.compute(), P=run.P.compute())
        with pytest.raises(StoreError, match="has no embedding; its status is 'started'"):
            run.embedding  # noqa: B018
        return True

    fit(data, store, callbacks=look)
    assert seen["status"] == "started"
    np.testing.assert_array_equal(seen["X"], data)
    np.testing.assert_allclose(seen["P"].sum(axis=1), 1.0)


def test_a_run_that_has_not_begun(store):
    Run.locate(store).create(overwrite=False)
    run = dasksne.open_run(store)
    assert run.status == "created"
    assert run.parameters == {}
    with pytest.raises(StoreError, match="has no X; its status is 'created'"):
        run.X  # noqa: B018

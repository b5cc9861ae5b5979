"""X scaled and turned into components on the way in: against scikit-learn, on every executor."""

import subprocess
import sys

import anndata
import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster
from processes import cluster_of
from scipy.sparse import csr_array
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import dasksne
from dasksne import preparation
from dasksne.errors import InvalidInputError, StoreError
from dasksne.executor.threads import ThreadExecutor
from dasksne.preparation import prepare
from dasksne.run import Run
from dasksne.settings import Settings

X = load_digits().data[:240]
NEW = load_digits().data[240:260]
BOTH = {"pca": 8, "scale": True}


def sne(**options):
    given = {"perplexity": 12.0, "annealing": None, "max_iter": 4}
    return dasksne.SNE(**{**given, **options})


def prepared(X, **options):
    settings: Settings = sne(**options)._settings()
    with ThreadExecutor(2) as executor:
        rows, found = prepare(executor, X, None, settings, None, in_memory=True, blind=False)
    return rows, found


def literal(X, *, pca=None, scale=False):
    rows = StandardScaler(with_std=scale).fit_transform(X)
    return rows if pca is None else PCA(pca, svd_solver="full").fit_transform(rows)


def up_to_signs(rows, expected):
    return rows * np.sign(np.sum(rows * expected, axis=0))


def isolation(options):
    """How far the variance of each component is from others': rounding mixes those that are near.

    Relative to the largest variance.
    """
    if "pca" not in options:
        return 1.0
    variances = literal(X, **{**options, "pca": 64}).var(axis=0)
    gaps = np.abs(variances - variances[:, np.newaxis]) + np.diag(np.full(64, np.inf))
    return gaps.min(axis=1)[: options["pca"]] / variances[0]


@pytest.mark.parametrize("options", [{"pca": 8}, {"scale": True}, BOTH, {"pca": 40}], ids=str)
@pytest.mark.parametrize("given", [np.asarray, csr_array], ids=["dense", "sparse"])
def test_as_scikit_learn_prepares(options, given):
    expected = literal(X, **options)
    rows, found = prepared(given(X), **options)
    error = np.abs(up_to_signs(rows, expected) - expected).max(axis=0)
    np.testing.assert_array_less(error, 1e-14 * np.abs(expected).max() / isolation(options))
    np.testing.assert_allclose(found.mean, X.mean(axis=0), rtol=1e-13)


def test_components_of_many_features_come_to_rounding_too(rng, monkeypatch):
    """Found by iteration; the spectrum is flat beside what is asked for."""
    monkeypatch.setattr(preparation, "LARGEST_COVARIANCE", 10)
    wide = rng.normal(size=(150, 200)) * np.linspace(1.0, 2.0, 200)
    expected = PCA(6, svd_solver="full").fit(wide).components_.T
    found = prepared(wide, pca=6)[1].components
    np.testing.assert_allclose(up_to_signs(found, expected), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.T @ found, np.eye(6), atol=1e-13)


def test_a_constant_feature_becomes_zero():
    with_constants = np.hstack([X, np.full((len(X), 1), 0.1), np.full((len(X), 1), 1e9)])
    rows, found = prepared(with_constants, scale=True)
    np.testing.assert_array_equal(found.scale[-2:], 1.0)
    np.testing.assert_array_equal(rows[:, -2:], 0.0)
    expected = StandardScaler().fit_transform(with_constants)[:, :-2]
    np.testing.assert_allclose(rows[:, :-2], expected, atol=1e-13)


@pytest.mark.parametrize("exponent", [400, -400])
def test_any_unit(exponent):
    expected = prepared(X, **BOTH)[0]
    np.testing.assert_allclose(prepared(np.ldexp(X, exponent), **BOTH)[0], expected, atol=1e-12)
    plain = np.ldexp(prepared(np.ldexp(X, exponent), pca=3)[0], -exponent)
    np.testing.assert_allclose(plain, prepared(X, pca=3)[0], atol=1e-12)


def test_the_map_is_that_of_the_prepared_data():
    model = sne(**BOTH).fit(X)
    expected = sne().fit(prepared(X, **BOTH)[0])
    np.testing.assert_array_equal(model.embedding_, expected.embedding_)
    assert model.n_features_in_ == X.shape[1]
    assert model.report_["n_features"] == BOTH["pca"]


@pytest.fixture(scope="module")
def fitted():
    return sne(**BOTH).fit(X)


@pytest.mark.parametrize("kind", ["sparse", "dask", "zarr"])
@pytest.mark.parametrize("stored", [False, True], ids=["unstored", "stored"])
def test_the_same_bits_of_any_kind_of_data(fitted, tmp_path, kind, stored):
    given = {
        "sparse": lambda: csr_array(X),
        "dask": lambda: da.from_array(X, chunks=(70, 30)),
        "zarr": lambda: zarr.create_array(tmp_path / "X.zarr", data=X, chunks=(50, 64)),
    }[kind]()
    model = sne(**BOTH, store=tmp_path / "run.zarr" if stored else None).fit(given)
    np.testing.assert_array_equal(model.embedding_, fitted.embedding_)


def test_the_same_bits_on_one_thread(fitted):
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(sne(**BOTH).fit(X).embedding_, fitted.embedding_)


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.parametrize("lazy", [False, True], ids=["array", "dask"])
@pytest.mark.parametrize("stored", [False, True], ids=["unstored", "stored"])
def test_the_same_bits_on_workers(cluster, fitted, tmp_path, lazy, stored):
    given = da.from_array(X, chunks=(70, 30)) if lazy else X
    with Client(cluster):
        model = sne(**BOTH, store=tmp_path / "run.zarr" if stored else None).fit(given)
        np.testing.assert_array_equal(model.embedding_, fitted.embedding_)
        if stored or not lazy:
            np.testing.assert_array_equal(model.transform(NEW), fitted.transform(NEW))


@pytest.mark.cluster
@pytest.mark.parametrize("lazy", [False, True], ids=["array", "dask"])
def test_the_same_bits_on_workers_that_do_not_see_the_store(fitted, tmp_path, lazy):
    given = da.from_array(X, chunks=(70, 30)) if lazy else X
    store = tmp_path / "private" / "run.zarr"
    store.parent.mkdir()
    with cluster_of(tmp_path, workers=0) as cluster:
        for _ in range(2):
            cluster.start_worker(hidden=store.parent)
        with cluster.client() as client:
            client.wait_for_workers(2)
            with pytest.warns(UserWarning, match="2 workers do not see"):
                model = sne(**BOTH, store=store).fit(given)
    np.testing.assert_array_equal(model.embedding_, fitted.embedding_)
    assert not dasksne.open_run(store).run.has("raw")


def test_new_points_are_prepared_as_the_others_were(fitted, tmp_path):
    rows, found = prepared(X, **BOTH)
    expected = sne().fit(rows).transform(found.rows(NEW))
    np.testing.assert_array_equal(fitted.transform(NEW), expected)
    np.testing.assert_array_equal(fitted.transform(csr_array(NEW)), expected)
    lazy = fitted.transform(da.from_array(NEW, chunks=(7, 9)))
    np.testing.assert_array_equal(lazy.compute(), expected)
    store = tmp_path / "run.zarr"
    sne(**BOTH, store=store).fit(X)
    again = dasksne.resume(store)
    assert again.get_params()["pca"] == 8
    assert again.get_params()["scale"] is True
    assert again.n_features_in_ == X.shape[1]
    np.testing.assert_array_equal(again.transform(NEW), expected)


def test_a_fitted_row_keeps_its_place(fitted):
    """One row alone is prepared to the same bits as among all."""
    np.testing.assert_array_equal(fitted.transform(X[::-1]), fitted.embedding_[::-1])
    for i in (0, 101, 239):
        np.testing.assert_array_equal(fitted.transform(X[i : i + 1])[0], fitted.embedding_[i])


def test_with_directions(tmp_path):
    model = sne(metric="cosine", pca=8, store=tmp_path / "run.zarr").fit(X)
    np.testing.assert_array_equal(model.transform(X[:5]), model.embedding_[:5])
    rows, found = prepared(X, pca=8)
    expected = sne(metric="cosine").fit(rows)
    np.testing.assert_array_equal(model.embedding_, expected.embedding_)
    with pytest.raises(InvalidInputError, match="zero in row 0"):
        model.transform(found.mean[np.newaxis])


def test_the_run_keeps_what_prepared_its_data(tmp_path):
    store = tmp_path / "run.zarr"
    sne(**BOTH, store=store).fit(X)
    run = zarr.open_group(store, mode="r")
    kept = {name: run[f"preparation/{name}"][:] for name in ("mean", "scale", "components")}
    standard = (X - kept["mean"]) / kept["scale"]
    np.testing.assert_allclose(standard @ kept["components"], run["X"][:], atol=1e-12)
    assert "raw" not in run


@pytest.mark.parametrize("status", ["finished", "started"])
def test_a_preparation_that_is_damaged_is_named_before_work(tmp_path, status, monkeypatch):
    store = tmp_path / "run.zarr"
    sne(**BOTH, store=store).fit(X)
    Run.locate(store).update(status=status)
    monkeypatch.setattr(dasksne.work, "go_through_stages", lambda *_: pytest.fail("too late"))
    chunk = store / "preparation" / "components" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(StoreError, match="preparation/components"):
        dasksne.resume(store)


KILLED = """
import os, sys
import dasksne
from sklearn.datasets import load_digits
def kill(event):
    if event.iteration == 2:
        os._exit(9)
model = dasksne.SNE(perplexity=12.0, annealing=None, max_iter=4, pca=8, scale=True,
                    store=sys.argv[1], checkpoint_seconds=0, callbacks=kill)
model.fit(load_digits().data[:240])
"""


@pytest.mark.slow
def test_a_run_goes_on_without_the_raw_data(fitted, tmp_path):
    store = tmp_path / "run.zarr"
    killed = subprocess.run([sys.executable, "-c", KILLED, store], check=False)
    assert killed.returncode == 9
    model = dasksne.resume(store)
    np.testing.assert_array_equal(model.embedding_, fitted.embedding_)
    np.testing.assert_array_equal(model.transform(NEW), fitted.transform(NEW))


def test_raw_values_are_looked_at_before_a_run_is_replaced(tmp_path):
    store = tmp_path / "run.zarr"
    sne(store=store).fit(X)
    bad = X.copy()
    bad[7, 3] = np.nan
    with pytest.raises(InvalidInputError, match="first in row 7"):
        sne(**BOTH, store=store, overwrite=True).fit(bad)
    assert dasksne.open_run(store).status == "finished"
    with pytest.raises(InvalidInputError, match="first in row 7"):
        sne(**BOTH).fit(da.from_array(bad, chunks=50))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pca": 65}, "pca=65 must not be above 64"),
        ({"pca": 0}, "pca=0 must be an integer above 0"),
        ({"pca": 0.9}, "pca=0.9 must be an integer"),
        ({"scale": "yes"}, "scale='yes' must be True or False"),
        ({"scale": True, "metric": "precomputed"}, "have no features"),
        ({"pca": 2, "metric": "precomputed"}, "have no features"),
        (
            {"pca": 2, "metric": "affinities", "perplexity": None},
            "affinities, which have no features",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_prepared(options, message):
    with pytest.raises(InvalidInputError, match=message):
        sne(**options).fit(X)
    with pytest.raises(InvalidInputError, match=message):
        sne(**options).plan(X)


def test_more_components_than_points():
    with pytest.raises(InvalidInputError, match="pca=21 must not be above 20"):
        sne(pca=21).fit(X[:20])


def test_a_plan_is_that_of_the_prepared_data():
    plan = sne(**BOTH, tail_mass=0.1).plan(X)
    assert plan.n_features == 8
    assert plan.kept_share == sne(tail_mass=0.1).plan(prepared(X, **BOTH)[0]).kept_share
    lazy = sne(**BOTH).plan(da.from_array(X, chunks=50))
    assert lazy.disk_bytes >= X.nbytes + 8 * len(X) * 8


def test_a_large_map_of_components(monkeypatch):
    """How much of P is kept is looked up in prepared rows."""
    monkeypatch.setattr(dasksne.job, "LARGEST_ANNEALED", 100)
    model = sne(**BOTH, annealing="auto", perplexity=4.0).fit(X)
    planned = sne(annealing="auto", perplexity=4.0).plan(prepared(X, **BOTH)[0])
    assert model.report_["coarse_share"] == planned.coarse_share > 0.0
    np.testing.assert_array_equal(model.transform(X[:9]), model.embedding_[:9])


def test_of_an_annotated_object():
    adata = anndata.AnnData(csr_array(X.astype(np.float32)))
    dasksne.sne(adata, pca=8, perplexity=12.0, annealing=None, max_iter=4)
    expected = sne(pca=8).fit(X.astype(np.float32))
    np.testing.assert_array_equal(adata.obsm["X_sne"], expected.embedding_)

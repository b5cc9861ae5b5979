"""New points: their places by the literal cost, whatever comes with them and wherever they lie."""

import pickle
import subprocess
import sys
import tracemalloc

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import zarr
from dask.sizeof import sizeof
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize, root
from scipy.special import entr, logsumexp, softmax
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

import dasksne
from dasksne.errors import DamageError, InvalidInputError, StoreError
from dasksne.kernels.placement import REACH
from dasksne.run import Run

N = 90
M = 21


@pytest.fixture
def data(rng):
    return rng.normal(size=(N, 5))


@pytest.fixture
def new():
    return np.random.default_rng(1).normal(size=(M, 5))


def sne(**options):
    given = {"perplexity": 6.0, "annealing": None, "max_iter": 8, "random_state": 3}
    return dasksne.SNE(**{**given, **options})


def between(A, B):
    return np.linalg.norm(A[:, np.newaxis] - B, axis=2)


# The place


def literal_p(squared, perplexity=None, sigma=None):
    if sigma is not None:
        return softmax(-squared / sigma**2)

    def excess(t):
        return np.sum(entr(softmax(-np.exp(t) * squared))) - np.log(perplexity)

    return softmax(-np.exp(brentq(excess, -30.0, 30.0, xtol=1e-14, rtol=1e-14)) * squared)


def literal_place(p, Y):
    def cost(y):
        squared = np.sum((y - Y) ** 2, axis=1)
        return p @ squared + logsumexp(-squared)

    def gradient(y):
        return 2.0 * (p - softmax(-np.sum((y - Y) ** 2, axis=1))) @ (y - Y)

    def hessian(y):
        z = y - Y
        q = softmax(-np.sum(z**2, axis=1))
        return 4.0 * ((z.T * q) @ z - np.outer(q @ z, q @ z))

    lowest = minimize(cost, p @ Y, jac=gradient, hess=hessian, method="trust-exact")
    # On from where the cost's own rounding ends the search.
    found = root(gradient, lowest.x, jac=hessian, tol=1e-13)
    assert np.linalg.norm(found.x - lowest.x) < 1e-4
    assert np.linalg.norm(found.fun) < 1e-10
    return found.x


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_components": 1, "perplexity": 12.0},
        {"n_components": 3},
        {"sigma": 1.5, "perplexity": None},
        {"dtype": "float32"},
        {"tail_mass": 0.05},
    ],
    ids=str,
)
def test_a_new_point_goes_where_its_literal_cost_is_least(data, new, options):
    model = sne(**options).fit(data)
    width = {"sigma": options["sigma"]} if "sigma" in options else {"perplexity": model.perplexity}
    P = [literal_p(squared, **width) for squared in between(new, data) ** 2]
    expected = [literal_place(p, model.embedding_) for p in P]
    assert np.max(np.abs(expected - P @ model.embedding_)) < REACH
    np.testing.assert_allclose(model.transform(new), expected, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("metric", ["euclidean", "precomputed"])
@pytest.mark.parametrize("exponent", [0, 450, -450])
def test_a_fitted_row_keeps_its_place(data, new, metric, exponent):
    given = data if metric == "euclidean" else between(data, data)
    model = sne(metric=metric, init="random").fit(np.ldexp(given, exponent))
    rows = np.arange(N)[::-3]
    placed = model.transform(np.ldexp(given[rows], exponent))
    np.testing.assert_array_equal(placed, model.embedding_[rows])
    near = np.ldexp(new if metric == "euclidean" else between(new, data), exponent)
    assert not np.isin(model.transform(near), model.embedding_).any()


def test_of_equal_fitted_rows_the_first_gives_the_place(rng):
    X = load_iris().data
    same = (X[:, np.newaxis] == X).all(axis=2)
    first = np.argmax(same, axis=1)
    assert np.sum(first != np.arange(len(X))) > 0
    model = sne(init=rng.normal(size=(len(X), 2)), max_iter=2).fit(X)
    np.testing.assert_array_equal(model.transform(X), model.embedding_[first])


def test_ties_are_those_of_a_fit(data):
    """More neighbours at one distance, but for rounding, than the perplexity share p evenly."""
    model = sne(metric="precomputed").fit(between(data, data))
    noise = np.random.default_rng(3).integers(-2, 3, size=(1, N))
    placed = model.transform(3.0 + np.spacing(3.0) * noise)
    np.testing.assert_array_equal(placed, model.transform(np.full((1, N), 3.0)))


def test_precomputed_distances_give_the_same_places(data, new):
    start = {"init": np.random.default_rng(2).normal(size=(N, 2))}
    expected = sne(**start).fit(data).transform(new)
    model = sne(metric="precomputed", **start).fit(between(data, data))
    np.testing.assert_allclose(model.transform(between(new, data)), expected, atol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "precomputed"])
def test_the_unit_does_not_matter(data, new, metric):
    if metric == "precomputed":
        data, new = between(data, data), between(new, data)
    options = {"metric": metric, "init": "random"}
    expected = sne(**options).fit(data).transform(new)
    for exponent in (-450, 3, 450):
        model = sne(**options).fit(np.ldexp(data, exponent))
        np.testing.assert_allclose(model.transform(np.ldexp(new, exponent)), expected, atol=1e-8)


@pytest.mark.parametrize("options", [{}, {"sigma": 0.5, "perplexity": None}], ids=str)
@pytest.mark.parametrize("far", [1e3, 1e6, 1e12, 1e100, 1e200, 1e300])
def test_far_points_stay_beside_the_map(data, new, options, far):
    model = sne(**options).fit(data)
    placed = model.transform(far * np.vstack([new, np.eye(5), -np.eye(5)]))
    assert np.isfinite(placed).all()
    y = model.embedding_
    assert (placed > y.min(axis=0) - 1.2 * REACH).all()
    assert (placed < y.max(axis=0) + 1.2 * REACH).all()


def test_held_out_digits_come_beside_their_kind():
    X, labels = load_digits(return_X_y=True)
    X, X_new, labels, expected = train_test_split(X, labels, test_size=0.2, random_state=0)
    model = dasksne.SNE(annealing=None, max_iter=60).fit(X)
    judge = KNeighborsClassifier(10)
    assert judge.fit(model.embedding_, labels).score(model.transform(X_new), expected) > 0.9


# The same bits


@pytest.fixture(scope="module")
def fitted():
    X = np.random.default_rng(5).normal(size=(N, 5))
    return sne(block_rows=16).fit(X)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=20)
def test_chunks_and_neighbours_do_not_matter(fitted, rows, columns, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(sum(rows), 5))
    whole = fitted.transform(X)
    chunked = fitted.transform(da.from_array(X, chunks=(tuple(rows), columns)))
    np.testing.assert_array_equal(chunked.compute(), whole)
    chosen = rng.permutation(len(X))[: rng.integers(1, len(X) + 1)]
    np.testing.assert_array_equal(fitted.transform(X[chosen]), whole[chosen])


@pytest.mark.parametrize("block_rows", [1, 16, 1000])
def test_layout_and_threads_do_not_matter(data, new, block_rows):
    expected = sne().fit(data).transform(new)
    model = sne(block_rows=block_rows).fit(data)
    for scheduler, workers in (("sync", None), ("threads", 1), ("threads", 3)):
        with dask.config.set(scheduler=scheduler, num_workers=workers):
            np.testing.assert_array_equal(model.transform(new), expected)


def test_any_input(data, new, tmp_path):
    model = sne().fit(data)
    expected = model.transform(new)
    np.save(tmp_path / "new.npy", new)
    for X in (new.tolist(), np.asfortranarray(new), np.load(tmp_path / "new.npy", mmap_mode="r")):
        np.testing.assert_array_equal(model.transform(X), expected)
    placed = model.transform(zarr.create_array(tmp_path / "new.zarr", data=new, chunks=(4, 2)))
    assert isinstance(placed, np.ndarray)
    np.testing.assert_array_equal(placed, expected)
    whole = np.rint(10.0 * new)
    np.testing.assert_array_equal(model.transform(whole.astype(np.int8)), model.transform(whole))


# What comes back


@pytest.mark.usefixtures("nothing_computes")
def test_a_dask_array_stays_lazy(data, new):
    with dask.config.set(scheduler="threads"):
        model = sne().fit(data)
    placed = model.transform(da.from_array(new, chunks=((4, 10, 7), (2, 3))))
    assert placed.chunks == ((4, 10, 7), (2,))
    assert placed.dtype == np.float64
    assert isinstance(placed._meta, np.ndarray)


def test_data_frames(data, new):
    names = list("abcde")
    model = sne().fit(pd.DataFrame(data, columns=names)).set_output(transform="pandas")
    frame = pd.DataFrame(new, columns=names, index=np.arange(M) + 100)
    placed = model.transform(frame)
    assert list(placed.columns) == ["sne0", "sne1"]
    assert list(placed.index) == list(frame.index)
    with pytest.raises(ValueError, match="feature names"):
        model.transform(frame[names[::-1]])


@pytest.mark.parametrize("lazy", [False, True])
def test_a_task_holds_a_row_block(rng, lazy):
    """All distances at once would take 24 MB; a row block of them takes 0.5 MB."""
    model = sne(block_rows=64, max_iter=1).fit(rng.normal(size=(1000, 3)))
    X = rng.normal(size=(3000, 3))
    if lazy:
        X = da.from_array(X, chunks=(3000, 3))
    with dask.config.set(scheduler="sync"):
        np.asarray(model.transform(X))  # compiles
        tracemalloc.start()
        np.asarray(model.transform(X))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2_000_000


# The run is enough


def test_a_run_places_points_in_another_process(data, new, tmp_path):
    expected = sne().fit(data).transform(new)
    model = sne(store=tmp_path / "run.zarr").fit(data)
    np.testing.assert_array_equal(model.transform(new), expected)
    (tmp_path / "run.zarr").rename(tmp_path / "moved.zarr")
    np.save(tmp_path / "new.npy", new)
    program = [sys.executable, "-c", "from dasksne.cli import main; main()"]
    arguments = ["transform", "moved.zarr", "new.npy", "-o", "placed.npy"]
    subprocess.run([*program, *arguments], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "placed.npy"), expected)


@pytest.mark.parametrize("options", [{}, {"metric": "precomputed", "init": "random"}], ids=str)
def test_a_resumed_model_and_one_of_lazy_data(data, new, tmp_path, options):
    if options:
        data, new = between(data, data), between(new, data)
    expected = sne(**options).fit(data).transform(new)
    lazy = da.from_array(data, chunks=(30, 40))
    model = sne(store=tmp_path / "run.zarr", **options).fit(lazy)
    np.testing.assert_array_equal(model.transform(new), expected)
    resumed = dasksne.resume(tmp_path / "run.zarr")
    np.testing.assert_array_equal(resumed.transform(new), expected)
    placed = resumed.transform(da.from_array(new, chunks=(5, -1)))
    np.testing.assert_array_equal(placed.compute(), expected)


def test_what_a_model_carries(rng, tmp_path):
    """A model with a run carries no data; one without is as large as its data, and says so."""
    X = rng.normal(size=(300, 100))
    small = sne(store=tmp_path / "run.zarr", max_iter=1).fit(X)
    large = sne(max_iter=1).fit(X)
    assert len(pickle.dumps(small)) < 50_000
    assert sizeof(small._fitted) < 1_000
    assert X.nbytes < sizeof(large._fitted) < X.nbytes + 10_000
    again = pickle.loads(pickle.dumps(large))  # noqa: S301
    np.testing.assert_array_equal(again.transform(X[::-1]), large.embedding_[::-1])
    distances = sne(metric="precomputed", init="random", max_iter=1).fit(between(X, X))
    assert len(pickle.dumps(distances)) < 50_000


@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
@pytest.mark.parametrize("name", ["X", "embedding"])
def test_a_chunk_that_is_missing_is_told_of(data, new, tmp_path, name, dtype):
    data = (20.0 * np.abs(data)).astype(dtype)
    sne(store=tmp_path / "run.zarr").fit(data)
    model = dasksne.resume(tmp_path / "run.zarr")
    (tmp_path / "run.zarr" / name / "c" / "0" / "0").unlink()
    with pytest.raises(DamageError, match=f"{name} of .*: a chunk is missing"):
        model.transform(new)


# What is refused


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((4, 3)), "X has 3 features, but SNE is expecting 5 features as input"),
        (np.zeros((0, 5)), "0 sample|at least one row"),
        (np.zeros(5), "1D array|1 dimensions"),
        (np.full((4, 5), "a"), "bytes/strings|real numbers"),
    ],
    ids=["features", "empty", "1-d", "text"],
)
def test_what_are_no_new_points(fitted, X, message, lazy):
    if lazy:
        X = da.from_array(X, chunks=2)
    with pytest.raises((ValueError, TypeError), match=message):
        fitted.transform(X)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_values_are_named(fitted, new, bad):
    new[[12, 17], 1] = bad
    with pytest.raises(InvalidInputError, match="NaN or infinity in row 12;"):
        fitted.transform(new)
    with pytest.raises(InvalidInputError, match=r"NaN or infinity in row (12|17);"):
        fitted.transform(da.from_array(new, chunks=(5, 2))).compute()


def test_precomputed_distances_are_those_to_fitted_points(data, new):
    model = sne(metric="precomputed", init="random").fit(between(data, data))
    with pytest.raises(ValueError, match=f"X has {M} features, but SNE is expecting {N}"):
        model.transform(between(new, new))
    distances = between(new, data)
    distances[3, 2] = -1.0
    with pytest.raises(InvalidInputError, match=r"not be negative: X\[3, 2\] = -1"):
        model.transform(distances)


def test_a_model_that_is_not_fitted(new):
    with pytest.raises(NotFittedError):
        sne().transform(new)


def test_lazy_data_that_nobody_kept(data, new):
    model = sne().fit(da.from_array(data, chunks=(30, 5)))
    with pytest.raises(InvalidInputError, match="fit it with store="):
        model.transform(new)


def test_a_run_that_is_gone_or_another(data, new, tmp_path):
    model = sne(store=tmp_path / "run.zarr").fit(data)
    sne(store=tmp_path / "run.zarr", overwrite=True).fit(data + 1.0)
    for X in (new, da.from_array(new, chunks=5)):
        with pytest.raises(StoreError, match="was replaced by another"):
            model.transform(X)
    Run.locate(tmp_path / "run.zarr").delete()
    with pytest.raises(StoreError, match="is not a dasksne run"):
        model.transform(new)

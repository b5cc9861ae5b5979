"""The estimator as scikit-learn, Dask and users expect it: what goes in, what is refused."""

import math
import pickle

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import reference
import scipy.sparse
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from same import assert_same_map
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

import dasksne
from dasksne import source
from dasksne.errors import InvalidInputError, ResourceError, StoreError
from dasksne.executor.threads import ThreadExecutor

N = 90


@pytest.fixture
def data(rng):
    return rng.normal(size=(N, 5))


def sne(**options):
    given = {"perplexity": 6.0, "annealing": [20.0], "max_iter": 8, "random_state": 3}
    return dasksne.SNE(**{**given, **options})


# The sparse data of some checks hold rows that are equal.
@pytest.mark.filterwarnings("ignore:.*rows cannot reach the perplexity:UserWarning")
@parametrize_with_checks([dasksne.SNE(perplexity=4.5, max_iter=5)])
def test_it_is_an_estimator(estimator, check):
    check(estimator)


def test_it_may_be_cloned_and_pickled(data):
    model = sne(p_storage="zarr", annealing=None).fit(data)
    assert clone(model).get_params() == model.get_params()
    assert_same_map(pickle.loads(pickle.dumps(model)), model)  # noqa: S301


def test_precomputed_distances_are_pairwise():
    assert not sne().__sklearn_tags__().input_tags.pairwise
    assert sne(metric="precomputed").__sklearn_tags__().input_tags.pairwise


def test_names_of_its_columns(data):
    names = sne(n_components=3).fit(data).get_feature_names_out()
    assert list(names) == ["sne0", "sne1", "sne2"]


# The same bits


@pytest.mark.parametrize("optimizer", ["lbfgs", "momentum"])
@pytest.mark.parametrize("init", ["pca", "random"])
def test_any_number_of_threads(data, optimizer, init):
    found = []
    for scheduler, workers in (("sync", None), ("threads", 1), ("threads", 2), ("threads", 4)):
        with dask.config.set(scheduler=scheduler, num_workers=workers):
            model = sne(optimizer=optimizer, init=init, block_rows=16, shards=4)
            found.append(model.fit(data))
    for model in found[1:]:
        assert_same_map(model, found[0])


def test_any_input(data, tmp_path):
    np.save(tmp_path / "X.npy", data)
    zarr.create_array(tmp_path / "X.zarr", data=data, chunks=(17, 2))
    expected = sne().fit(data)
    for X in (
        data.tolist(),
        np.asfortranarray(data),
        np.load(tmp_path / "X.npy", mmap_mode="r"),
        zarr.open_array(tmp_path / "X.zarr", mode="r"),
        da.from_array(data, chunks=(N, 5)),
        da.from_array(data, chunks=(7, 2)),
        da.from_array(data, chunks=((1, 50, 39), (5,))),
    ):
        assert_same_map(sne().fit(X), expected)


@pytest.mark.parametrize(
    "layout",
    [
        {"block_rows": 1},
        {"block_rows": 16, "shards": 2},
        {"block_rows": 1000},
        {"p_storage": "memory"},
        {"p_storage": "zarr", "block_rows": 32},
        {"p_storage": "recompute", "block_rows": 32, "shards": 1},
        {"repulsion": "direct"},
    ],
    ids=str,
)
@pytest.mark.parametrize("keep", [False, True])
def test_any_layout(data, tmp_path, layout, keep):
    store = tmp_path / "run.zarr" if keep else None
    assert_same_map(sne(store=store, **layout).fit(data), sne().fit(data))


@given(
    st.integers(5, 40),
    st.integers(1, 4),
    st.integers(1, 3),
    st.floats(0.1, 0.9),
    st.integers(1, 45),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=15)
def test_any_problem(n, n_features, d, share, rows, block_rows, seed):
    """Chunks and row blocks change no bit, and the cost is that of the map returned."""
    X = np.random.default_rng(seed).normal(size=(n, n_features))
    options = {
        "perplexity": 1.0 + share * (n - 2),
        "n_components": d,
        "annealing": None,
        "max_iter": 3,
    }
    expected = sne(**options).fit(X)
    found = sne(block_rows=block_rows, **options).fit(da.from_array(X, chunks=(rows, -1)))
    assert_same_map(found, expected)
    P = reference.vectorised_conditional_probabilities(X, options["perplexity"])
    cost = reference.vectorised_evaluation(P, expected.embedding_)[0]
    assert expected.kl_divergence_ == pytest.approx(cost, rel=1e-9, abs=1e-9)


def test_a_seed_repeats_a_run(data):
    random = {"init": "random", "optimizer": "momentum"}
    first, same = sne(**random).fit(data), sne(**random).fit(data)
    assert_same_map(same, first)
    other = sne(**random | {"random_state": 4}).fit(data)
    assert not np.array_equal(other.embedding_, first.embedding_)
    state = sne(**random | {"random_state": np.random.RandomState(3)}).fit(data)
    assert_same_map(state, first)


@pytest.mark.parametrize("optimizer", ["lbfgs", "momentum"])
def test_the_unit_of_x_does_not_matter(data, optimizer):
    options = {"init": "random", "optimizer": optimizer}
    expected = sne(**options).fit(data)
    found = [sne(**options).fit(np.ldexp(data, exponent)) for exponent in (-498, -40, 3, 400)]
    for model in found:
        np.testing.assert_allclose(model.embedding_, expected.embedding_, rtol=0.0, atol=1e-10)
        assert model.kl_divergence_ == pytest.approx(expected.kl_divergence_, rel=1e-12)
    assert_same_map(found[-1], found[0])  # both are divided by a power of two


@pytest.mark.parametrize("scale", [1e150, 1e-150, 1e300, 1e-300])
def test_values_near_the_ends_of_the_numbers(data, scale):
    found, expected = sne().fit(scale * data), sne().fit(data)
    assert found.kl_divergence_ == pytest.approx(expected.kl_divergence_, rel=1e-9)
    np.testing.assert_allclose(found.embedding_, expected.embedding_, rtol=1e-6, atol=1e-6)


def test_sigma_has_the_unit_of_x(data):
    found = dasksne.SNE(sigma=1.5 * 2.0**400, max_iter=5).fit(np.ldexp(data, 400))
    expected = dasksne.SNE(sigma=1.5, max_iter=5).fit(data)
    assert found.kl_divergence_ == pytest.approx(expected.kl_divergence_, rel=1e-12)


# What comes back


def test_arrays_come_back_as_they_came(data, tmp_path):
    model = sne()
    Y = model.fit_transform(data)
    assert isinstance(Y, np.ndarray)
    assert Y is model.embedding_
    lazy = model.fit_transform(da.from_array(data, chunks=(40, 5)))
    assert isinstance(lazy, da.Array)
    assert lazy.chunks == ((40, 40, 10), (2,))
    np.testing.assert_array_equal(lazy.compute(), Y)
    stored = zarr.create_array(tmp_path / "X.zarr", data=data, chunks=(40, 5))
    assert isinstance(model.fit_transform(stored), np.ndarray)


def test_a_data_frame(data):
    found = sne().fit(pd.DataFrame(data, columns=list("abcde")))
    assert_same_map(found, sne().fit(data))
    assert list(found.feature_names_in_) == list("abcde")


def test_a_run_keeps_the_names_of_columns(data, tmp_path):
    frame = pd.DataFrame(data, columns=list("abcde"))
    fitted = sne(store=tmp_path / "run.zarr").fit(frame)
    resumed = dasksne.resume(tmp_path / "run.zarr")
    assert list(resumed.feature_names_in_) == list("abcde")
    np.testing.assert_array_equal(resumed.transform(frame[:3]), fitted.transform(frame[:3]))
    with pytest.raises(ValueError, match="feature names"):
        resumed.transform(frame[list("bcdea")])


def test_a_plan_takes_no_seed(data):
    random = np.random.RandomState(0)
    model = dasksne.SNE(perplexity=5, random_state=random)
    model.plan(data)
    assert random.randint(1000) == np.random.RandomState(0).randint(1000)


def test_a_plan_leaves_the_model_as_it_is(data):
    model = sne()
    model.plan(np.zeros((50, 7)))
    assert not hasattr(model, "n_features_in_")
    with pytest.raises(NotFittedError):
        model.transform(data)
    model.fit(data).plan(np.zeros((50, 7)))
    np.testing.assert_array_equal(model.transform(data), model.embedding_)


def test_rows_of_a_store_go_with_the_run(data, tmp_path):
    x = zarr.create_array(tmp_path / "x.zarr", data=data)
    sne().fit(x)
    assert not source._kept


def test_a_data_frame_of_dask(data):
    names = list("abcde")
    frame = pd.DataFrame(data, columns=names, index=[f"row {i}" for i in range(N)])
    lazy = dd.from_pandas(frame, npartitions=3, sort=False)
    model = sne().fit(frame)
    fitted = sne()
    Y = fitted.fit_transform(lazy)
    assert isinstance(Y, da.Array)
    np.testing.assert_array_equal(Y, model.embedding_)
    assert list(fitted.feature_names_in_) == names
    with pytest.raises(ValueError, match="feature names"):
        model.transform(lazy[names[::-1]])
    model.set_output(transform="pandas")
    for found in (model.transform(lazy), sne().set_output(transform="pandas").fit_transform(lazy)):
        assert list(found.columns) == ["sne0", "sne1"]
        assert list(found.index) == list(frame.index)
        np.testing.assert_array_equal(found, Y)


@pytest.mark.parametrize("codec", [None, "gzip", "zstd", "blosc"])
def test_a_damaged_chunk_of_a_zarr_array_is_named(data, tmp_path, codec):
    X = zarr.create_array(
        tmp_path / "X.zarr",
        data=data,
        chunks=(40, 5),
        compressors=None if codec is None else {"name": codec, "configuration": {}},
    )
    assert_same_map(sne().fit(X), sne().fit(data))
    (tmp_path / "X.zarr" / "c" / "1" / "0").write_bytes(b"abc")
    with pytest.raises(InvalidInputError, match=r"from \(40, 0\) on .* restore it"):
        sne(store=tmp_path / "run.zarr").fit(X)
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, np.longdouble, np.int16, np.uint8, ">f8"]
)
@pytest.mark.parametrize("lazy", [False, True])
def test_any_real_numbers(rng, dtype, lazy, tmp_path):
    X = (3 * rng.random((N, 20))).astype(dtype)
    expected = sne().fit(X.astype(np.float64))
    given = da.from_array(X, chunks=(30, 20)) if lazy else X
    found = sne(store=tmp_path / "run.zarr").fit(given)
    np.testing.assert_allclose(found.embedding_, expected.embedding_, atol=1e-9)


def test_precomputed_distances(data):
    distances = np.sqrt(reference.squared_distances(data))
    found = sne(metric="precomputed", init="random").fit(distances)
    expected = sne(init="random").fit(data)
    assert found.kl_divergence_ == pytest.approx(expected.kl_divergence_, rel=1e-9)


# A Dask array stays where it is


@pytest.mark.parametrize("chunks", [(7, 5), (30, 2), (N, 5)])
def test_each_block_is_computed_once_and_none_is_gathered(data, chunks, monkeypatch):
    seen = []

    def look(block, block_info=None):
        seen.append(block_info[0]["chunk-location"])
        return block

    X = da.from_array(data, chunks=chunks).map_blocks(look, dtype=float, meta=np.empty((0, 0)))

    def refusing(gather):
        def refuse(self, *args, **options):
            assert self.shape != X.shape, "X was gathered"
            return gather(self, *args, **options)

        return refuse

    for name in ("__array__", "compute"):
        monkeypatch.setattr(da.Array, name, refusing(getattr(da.Array, name)))
    sne().fit(X)
    assert sorted(seen) == sorted(np.ndindex(*X.numblocks))


# What is refused, before anything is done


@pytest.fixture
def no_work(monkeypatch):
    """Fail if a task is started."""
    monkeypatch.setattr(ThreadExecutor, "map", lambda *_: pytest.fail("work was started"))


def lazily(X):
    return da.from_array(X, chunks=(max(1, len(X) // 2), *X.shape[1:]))


@pytest.mark.parametrize("wrap", [np.asarray, lazily])
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(20), "1D array|1 dimensions"),
        (np.zeros((20, 3, 2)), "dim 3|3 dimensions"),
        (np.zeros((0, 3)), "0 sample|at least two rows"),
        (np.zeros((20, 0)), "0 feature|one feature"),
        (np.zeros((1, 3)), "1 sample|at least two rows"),
        (np.zeros((20, 3), dtype=complex), "[Cc]omplex|real numbers"),
        (np.full((20, 3), "a"), "bytes/strings|real numbers"),
        (np.full((20, 3), None), "holds NaN|real numbers"),
        (np.zeros((20, 3), dtype="M8[s]"), "real numbers"),
    ],
    ids=["1-d", "3-d", "empty", "no features", "one row", "complex", "text", "object", "dates"],
)
@pytest.mark.usefixtures("no_work")
def test_data_that_is_no_matrix_of_numbers(X, message, wrap, tmp_path):
    with pytest.raises((ValueError, TypeError), match=message):
        sne(store=tmp_path / "run.zarr", annealing=None).fit(wrap(X))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_values_are_named(data, bad, tmp_path):
    data[[12, 30], 1] = bad
    for X in (data, da.from_array(data, chunks=(20, 5))):
        with pytest.raises(InvalidInputError, match=r"in 2 of its 90 rows, first in row 12"):
            sne(store=tmp_path / "run.zarr").fit(X)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrap", [np.asanyarray, da.from_array])
def test_masked_values_are_refused(data, wrap):
    masked = np.ma.masked_where(data > 1.0, data)
    with pytest.raises(InvalidInputError, match="no distance to what is masked"):
        sne().fit(wrap(masked))


def test_one_array_to_save_may_be_named_alone(data, tmp_path):
    sne(store=tmp_path / "run.zarr", save="distances").fit(data)
    assert dasksne.open_run(tmp_path / "run.zarr").distances.shape == (N, N)


def test_chunks_of_unknown_size(data):
    X = da.from_array(data, chunks=(30, 5))
    with pytest.raises(InvalidInputError, match="compute_chunk_sizes"):
        sne().fit(X[X[:, 0] > 0.0])


@pytest.mark.parametrize("kind", ["csr_array", "csc_matrix", "coo_array"])
def test_sparse_data_stays_sparse_in_memory(data, kind, tmp_path, monkeypatch):
    data[np.abs(data) < 0.3] = 0.0
    X = getattr(scipy.sparse, kind)(data)
    monkeypatch.setattr("dasksne.source.CHUNK_BYTES", 64 * 8 * 5)
    rows = []
    for form in (scipy.sparse.csr_array, scipy.sparse.csr_matrix):
        toarray = form.toarray

        def look(block, toarray=toarray, **options):
            rows.append(block.shape[0])
            return toarray(block, **options)

        monkeypatch.setattr(form, "toarray", look)
    expected = sne().fit(data)
    for options in ({}, {"store": tmp_path / "run.zarr"}):
        found = sne(**options).fit(X)
        assert_same_map(found, expected)
        new = scipy.sparse.csr_array(data[:70:3] + 0.25)
        np.testing.assert_array_equal(found.transform(new), expected.transform(new.toarray()))
    assert max(rows) <= 64, rows
    # A number and a column for each entry, and where each row begins.
    assert sne().plan(X).x_bytes == 12 * np.count_nonzero(data) + 4 * (N + 1)


@pytest.mark.usefixtures("no_work")
def test_sparse_data_that_cannot_be_taken(data):
    with pytest.raises(InvalidInputError, match="X is sparse; precomputed distances"):
        sne(metric="precomputed").fit(scipy.sparse.eye_array(N))
    X = da.from_array(data, chunks=(30, 5))
    X = X.map_blocks(scipy.sparse.csr_array, meta=scipy.sparse.csr_array((0, 0)))
    with pytest.raises(InvalidInputError, match=r"blocks of csr_array.*toarray"):
        sne().fit(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((20, 3)), "square"),
        (np.zeros((20, 20)) - 1.0 + np.eye(20), "negative"),
        (np.ones((20, 20)), "to themselves must be zero"),
    ],
)
@pytest.mark.parametrize("wrap", [np.asarray, lazily])
def test_what_are_no_distances(X, message, wrap):
    with pytest.raises(InvalidInputError, match=message):
        sne(metric="precomputed", annealing=None).fit(wrap(X))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"perplexity": 1.0}, "above 1"),
        ({"perplexity": N - 1}, "below N - 1 = 89"),
        ({"perplexity": None, "sigma": -1.0}, "sigma"),
        ({"sigma": 1.0}, "give one of the two"),
        ({"metric": "manhattan"}, "'euclidean', "),
        ({"init": "zeros"}, "'pca', "),
        ({"init": np.zeros((N, 3))}, r"\(90, 3\).*\(90, 2\)"),
        ({"annealing": [200.0]}, "below N - 1 = 89"),
        ({"save": "P"}, "'distances', 'Q'"),
        ({"n_components": 0}, "n_components=0"),
        ({"sigma": 1e-200, "perplexity": None}, "sigma=1e-200 is so small"),
        ({"store": "http://host/run"}, "protocols"),
        ({"memory_limit": "12kB"}, r"need .*MB of memory and 12\.0 kB may be used"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_options_that_make_no_sense(data, options, message):
    with pytest.raises((InvalidInputError, ResourceError, StoreError), match=message):
        sne(**options).fit(data)


# What is not refused


def test_duplicate_rows(data):
    data[1:4] = data[0]
    model = sne().fit(data)
    assert math.isfinite(model.kl_divergence_)
    assert model.report_["rows_below_perplexity"] == 0


def test_more_duplicates_than_neighbours_are_told_of(data):
    data[:12] = 100.0
    with pytest.warns(UserWarning, match="12 of 90 rows cannot reach the perplexity 6"):
        model = sne().fit(data)
    assert np.isfinite(model.embedding_).all()


def test_equal_rows():
    with pytest.warns(UserWarning, match="90 of 90 rows cannot reach"):
        model = sne().fit(np.ones((N, 4)))
    assert np.isfinite(model.embedding_).all()
    assert model.kl_divergence_ == pytest.approx(0.0, abs=1e-10)


def test_a_map_of_more_dimensions_than_the_data(rng):
    """No direction of the map is left empty."""
    Y = sne(annealing=None, max_iter=60, n_components=3).fit_transform(rng.normal(size=(N, 1)))
    assert (Y.std(axis=0) > 1e-3).all()


@pytest.mark.usefixtures("no_work", "nothing_computes")
def test_a_plan_computes_nothing(data):
    with dask.config.set(scheduler="threads"):
        plan = sne().plan(da.from_array(data, chunks=(20, 5)))
    assert plan.n_points == N
    assert plan.p_bytes == 8 * N**2


def test_an_array_that_is_read_only(data):
    data.flags.writeable = False
    before = data.copy()
    sne(store=None).fit(data)
    np.testing.assert_array_equal(data, before)

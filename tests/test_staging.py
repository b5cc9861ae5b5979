import dask.array as da
import numpy as np
import pytest

import dasksne
from dasksne import staging
from dasksne.errors import InvalidInputError, StoreError
from dasksne.executor.threads import ThreadExecutor
from dasksne.given import Precomputed
from dasksne.run import Run
from dasksne.source import Features
from dasksne.staging import (
    _store_block,
    look_at_array,
    look_at_stored,
    store_rows,
    stored_source,
)


@pytest.fixture
def run(tmp_path):
    run = Run.locate(tmp_path / "run.zarr")
    run.create(overwrite=False)
    run.update(id="a")
    return run


@pytest.fixture
def small_chunks(monkeypatch):
    """Let a chunk of X hold 64 rows."""
    monkeypatch.setattr("dasksne.source.CHUNK_BYTES", 64 * 8)


@pytest.mark.parametrize("metric", ["euclidean", "precomputed"])
@pytest.mark.usefixtures("small_chunks")
def test_a_look_is_the_same_wherever_x_is(run, rng, metric):
    X = np.abs(rng.normal(size=(200, 200)))
    np.fill_diagonal(X, 0.0)
    rows = store_rows(None, X, run, metric)
    assert run.array("X").chunks[0] == 64
    with ThreadExecutor(2) as executor:
        there = look_at_stored(executor, rows, metric)
    here = look_at_array(X, metric)
    assert here.fingerprint == there.fingerprint
    assert here.exponent == there.exponent == 0
    np.testing.assert_array_equal(here.mean, there.mean)
    np.testing.assert_allclose(here.mean, X.mean(axis=0))


@pytest.mark.parametrize(
    ("scale", "exponent"), [(1.0, 0), (2.0**299, 0), (1e150, 499), (1e-150, -498), (0.0, 0)]
)
def test_data_far_from_one_is_divided(scale, exponent):
    X = scale * np.array([[1.0, 0.5], [0.25, 0.0]])
    look = look_at_array(X, "euclidean")
    assert look.exponent == exponent
    np.testing.assert_allclose(look.mean, np.ldexp(X, -exponent).mean(axis=0))
    assert look.source(None, "euclidean").exponent == exponent


@pytest.mark.usefixtures("small_chunks")
def test_bad_rows_are_named(run, rng):
    X = rng.normal(size=(300, 4))
    X[[130, 131, 290], 2] = np.nan, np.inf, -np.inf
    named = r"NaN or infinity in 3 of its 300 rows, first in row 130;"
    with pytest.raises(InvalidInputError, match=named):
        look_at_array(X, "euclidean")
    rows = store_rows(None, X, run, "euclidean")
    with ThreadExecutor(2) as executor, pytest.raises(InvalidInputError, match=named):
        look_at_stored(executor, rows, "euclidean")


@pytest.mark.usefixtures("small_chunks")
def test_what_is_no_distance_is_named():
    X = np.ones((100, 100))
    with pytest.raises(InvalidInputError, match=r"must be zero: X\[0, 0\] = 1"):
        look_at_array(X, "precomputed")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_of_a_lazy_array_that_begin_with_nan_are_named(dtype):
    """Which is also what a chunk that is missing begins with."""
    X = np.ones((40, 3), dtype=dtype)
    X[0] = np.nan
    with pytest.raises(InvalidInputError, match="in 1 of its 40 rows, first in row 0"):
        dasksne.SNE(perplexity=5).fit(da.from_array(X, chunks=(10, 3)))


def test_a_block_that_comes_too_late_is_written_to_no_other_run(run):
    run.create_array("X", (4, 2), (4, 2))
    info = {0: {"array-location": [(0, 4), (0, 2)]}}
    with pytest.raises(StoreError, match="replaced by another one"):
        _store_block(np.ones((4, 2)), run, "another", "X", block_info=info)
    assert np.isnan(run.read("X")).all()


@pytest.mark.parametrize("chunks", [(7, 3), (200, 1), ((150, 1, 49), (2, 2)), (200, 4)])
@pytest.mark.parametrize("by_workers", [True, False])
@pytest.mark.usefixtures("small_chunks")
def test_each_dask_block_is_computed_once(run, rng, chunks, by_workers):
    X = rng.normal(size=(200, 4))
    seen = []

    def look(block, block_info=None):
        seen.append(block_info[0]["chunk-location"])
        return block

    lazy = da.from_array(X, chunks=chunks).map_blocks(look, dtype=X.dtype, meta=np.empty((0, 0)))
    with ThreadExecutor(2) as executor:
        rows = store_rows(executor, lazy, run, "euclidean", by_workers=by_workers)
    assert sorted(seen) == sorted(np.ndindex(*lazy.numblocks))
    np.testing.assert_array_equal(rows.read(slice(0, 200)), X)


def test_a_stored_source_is_what_the_run_says(run, rng):
    X = np.ldexp(rng.normal(size=(20, 20)), 400)
    store_rows(None, X, run, "euclidean")
    for metric, kind in (("euclidean", Features), ("precomputed", Precomputed)):
        run.update(parameters={"metric": metric}, exponent=400)
        source = stored_source(run)
        assert isinstance(source, kind)
        assert source.exponent == 400
        assert np.isfinite(source.panel(slice(0, 20))).all()


def test_precomputed_columns_are_chunks_of_their_own(run):
    n = staging.TILE_COLUMNS + 76
    store_rows(None, np.zeros((n, n), dtype=np.float32), run, "precomputed")
    assert run.array("X").chunks[1] == staging.TILE_COLUMNS

import pickle
from dataclasses import replace

import numpy as np
import pytest
import reference
import zarr

from dasksne import source
from dasksne.given import Precomputed
from dasksne.inspection import inspect
from dasksne.run import Run
from dasksne.source import (
    CHUNK_BYTES,
    TILE_COLUMNS,
    TILE_ROWS,
    ArrayRows,
    Features,
    StoredRows,
    row_chunks,
    row_panels,
)
from dasksne.staging import store_rows

LONG = CHUNK_BYTES // (8 * 600)
"""Features of which a chunk holds 600 rows: neither a tile nor a divisor of one."""


def stored(tmp_path, X, metric="euclidean", name="run.zarr"):
    run = Run.locate(tmp_path / name)
    run.create(overwrite=True)
    run.update(id=name)
    return store_rows(None, X, run, metric)


def from_tiles(source, rows):
    """Put the tiles of some rows together, forth and back."""
    tiles = [
        (tile.columns, tile.distances.copy(), tile.distances_back.copy())
        for tile in source.tiles(rows)
    ]
    starts = [columns.start for columns, _, _ in tiles]
    assert starts == list(range(0, source.n_points, TILE_COLUMNS))
    return (np.hstack([tile[1] for tile in tiles]), np.hstack([tile[2] for tile in tiles]))


# Euclidean


def test_distances_of_a_panel(rng):
    X = rng.normal(size=(60, 5))
    expected = reference.squared_distances(X)
    found = Features(ArrayRows(X)).panel(slice(7, 31))
    np.testing.assert_allclose(found, expected[7:31], rtol=1e-13)


@pytest.mark.parametrize("n_features", [3, LONG])
def test_tiles_are_as_wide_as_tiles_and_have_the_bits_of_the_panel(n_features):
    n = 2 * TILE_COLUMNS + 200
    X = np.zeros((n, n_features))
    X[:, :3] = np.random.default_rng(1).normal(size=(n, 3))
    source, rows = Features(ArrayRows(X)), slice(1000, 1040)
    forth, back = from_tiles(source, rows)
    np.testing.assert_array_equal(forth, source.panel(rows))
    np.testing.assert_array_equal(back, forth)


def test_scaled_data_has_scaled_distances(rng):
    X = rng.normal(size=(30, 4))
    rows = slice(0, 30)
    np.testing.assert_array_equal(
        Features(ArrayRows(np.ldexp(X, 490)), 490).panel(rows), Features(ArrayRows(X)).panel(rows)
    )


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, np.int8, np.uint64, np.bool_, ">f8"]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_stored_rows_are_those_of_the_array(tmp_path, rng, dtype, order):
    X = np.asarray(np.abs(50 * rng.normal(size=(50, 4))), dtype=dtype, order=order)
    kept = stored(tmp_path, X)
    assert kept.shape == X.shape
    for rows in (slice(0, 50), slice(11, 12), slice(30, 50)):
        for held in (ArrayRows(X), pickle.loads(pickle.dumps(kept))):  # noqa: S301
            found = held.read(rows)
            assert found.dtype == np.float64
            assert found.flags.c_contiguous
            np.testing.assert_array_equal(found, X[rows].astype(np.float64))
            np.testing.assert_array_equal(held.block(rows, slice(1, 3)), X[rows, 1:3])


def test_rows_up_to_a_number_are_read_once(tmp_path, rng, monkeypatch):
    """Whichever of them are asked for: what is kept is counted on by a plan."""
    monkeypatch.setattr(source, "CHUNK_BYTES", 64 * 8 * 3)
    X = rng.normal(size=(300, 3))
    kept = replace(stored(tmp_path, X), kept_rows=150)
    opened = []
    opening = StoredRows.open
    monkeypatch.setattr(StoredRows, "open", lambda self: opened.append(1) or opening(self))
    for _ in range(3):
        for rows in (slice(0, 64), slice(10, 20), slice(60, 120), slice(120, 200)):
            found = kept.read(rows)
            np.testing.assert_array_equal(found, X[rows])
            assert found.flags.c_contiguous
    assert len(opened) == 2 + 3
    assert sum(chunk.nbytes for chunk in source._kept[kept].values()) == 128 * 8 * 3


def test_options_of_a_bucket_may_hold_options(tmp_path, rng, monkeypatch):
    X = rng.normal(size=(20, 3))
    options = (("client_kwargs", {"endpoint_url": "http://127.0.0.1:9000"}),)
    there = replace(stored(tmp_path, X), storage_options=options)
    array = zarr.open_array(there.url, path=there.path, mode="r")
    monkeypatch.setattr(StoredRows, "open", lambda _: array)
    np.testing.assert_array_equal(there.read(slice(3, 9)), X[3:9])


def test_rows_that_are_kept_cannot_be_changed(tmp_path, rng):
    kept = stored(tmp_path, rng.normal(size=(20, 3)))
    with pytest.raises(ValueError, match="read-only"):
        kept.read(slice(0, 20))[0] = 1.0


def test_nothing_is_kept_of_what_another_array_takes_the_place_of(tmp_path, rng):
    """On a worker, which outlives runs: of another run, of X as it was, of X before a plan."""
    X = rng.normal(size=(30, 3))
    first, second = (replace(stored(tmp_path, X, name=name), kept_rows=30) for name in "ab")
    for name in ("raw", "embedding"):
        Run.locate(tmp_path / "b").create_array(name, X.shape, X.shape)
        Run.locate(tmp_path / "b").write(name, slice(None), X)
    raw, planned = replace(second, path="raw"), replace(second, kept_rows=40)
    embedding = replace(second, path="embedding")

    def kept_after(array):
        array.read(slice(0, 30))
        return set(source._kept)

    assert kept_after(first) == {first}
    assert kept_after(raw) == {raw}
    assert kept_after(second) == {second}
    assert kept_after(planned) == {planned}
    assert kept_after(embedding) == {planned, embedding}
    assert kept_after(planned) == {planned, embedding}
    source.forget_rows()
    assert not source._kept


def test_the_cache_knows_when_data_was_replaced(tmp_path):
    first = stored(tmp_path, np.zeros((20, 3)))
    assert first.read(slice(0, 20)).max() == 0.0
    run = Run.locate(tmp_path / "run.zarr")
    run.create(overwrite=True)
    run.update(id="another")
    assert store_rows(None, np.ones((20, 3)), run, "euclidean").read(slice(0, 20)).max() == 1.0


# Precomputed


@pytest.mark.parametrize("keep", [False, True])
def test_precomputed_distances_are_squared_both_ways(tmp_path, rng, keep):
    X = rng.random((1500, 1500))
    np.fill_diagonal(X, 0.0)
    rows = slice(1010, 1030)
    source = Precomputed(stored(tmp_path, X, "precomputed") if keep else ArrayRows(X))
    forth, back = from_tiles(source, rows)
    np.testing.assert_array_equal(forth, X[rows] ** 2)
    np.testing.assert_array_equal(back, X[:, rows].T ** 2)
    np.testing.assert_array_equal(source.panel(rows), forth)


# Chunks


@pytest.mark.parametrize("n_points", [1, 63, 64, 1025, 100_000])
@pytest.mark.parametrize("n_features", [1, 50, 513, 5_000, 1_000_000])
def test_chunks_cover_all_rows_once(n_points, n_features):
    chunks = row_chunks(n_points, n_features)
    assert [c for chunk in chunks[:2000] for c in (chunk.start, chunk.stop)][0::2] == [
        0,
        *(chunk.stop for chunk in chunks[:2000][:-1]),
    ]
    assert chunks[-1].stop == n_points
    height = chunks[0].stop
    assert height == n_points or height % TILE_ROWS == 0
    assert 8 * height * n_features <= max(
        CHUNK_BYTES,
        8 * TILE_ROWS * n_features,
        8 * n_features * TILE_COLUMNS if n_features * 8192 <= CHUNK_BYTES else 0,
    )


def test_panels_cover_a_block():
    assert row_panels(slice(64, 200)) == [slice(64, 128), slice(128, 192), slice(192, 200)]


# What is looked for


def test_bad_rows_are_counted_from_the_first_row(rng):
    X = rng.normal(size=(40, 3))
    X[25, 1], X[31, 0], X[31, 2] = np.nan, np.inf, -np.inf
    found = inspect(slice(20, 40), ArrayRows(X), "euclidean")
    assert (found.n_rows, found.n_bad, found.first_bad) == (20, 2, 25)
    assert found.largest == np.abs(np.delete(X[20:], [5, 11], axis=0)).max()
    assert inspect(slice(0, 20), ArrayRows(X), "euclidean").n_bad == 0


def test_the_mean_does_not_overflow():
    X = np.full((10, 2), 1.5e308)
    np.testing.assert_allclose(inspect(slice(0, 10), ArrayRows(X), "euclidean").mean, X[0])


def test_the_digest_follows_the_values(rng):
    X = rng.normal(size=(20, 3))
    one = inspect(slice(0, 20), ArrayRows(X), "euclidean").digest
    assert inspect(slice(0, 20), ArrayRows(X.copy()), "euclidean").digest == one
    X[19, 2] = np.nextafter(X[19, 2], 9.0)
    assert inspect(slice(0, 20), ArrayRows(X), "euclidean").digest != one


def test_a_negative_distance_is_named():
    X = np.zeros((4, 4))
    X[3, 1] = -2.0
    found = inspect(slice(2, 4), ArrayRows(X), "precomputed")
    assert "negative: X[3, 1] = -2" in found.complaint


def test_a_distance_to_itself_is_named():
    X = np.ones((4, 4))
    np.fill_diagonal(X, 0.0)
    X[3, 3] = 0.5
    assert inspect(slice(0, 2), ArrayRows(X), "precomputed").complaint is None
    found = inspect(slice(2, 4), ArrayRows(X), "precomputed")
    assert "zero: X[3, 3] = 0.5" in found.complaint

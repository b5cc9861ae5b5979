"""Data and labels that come in, maps that go out."""

import csv
import io
import json
import os
import pickle
import sys
from pathlib import Path

import anndata
import fsspec
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import write_elem

from dasksne.errors import InvalidInputError, StoreError
from dasksne.files import Taken, read_input, read_labels, write_map, writing
from dasksne.labels import keep_labels, kept_labels
from dasksne.run import Run
from dasksne.staging import as_collection


@pytest.fixture
def x(rng):
    return rng.normal(size=(7, 3))


LABELS = np.arange(7) % 2
NPY = b"\x93NUMPY\x01\x00"
"""What a .npy begins with."""


def test_digits_have_labels():
    found = read_input("digits")
    assert found.X.shape == (1797, 64)
    assert found.labels.tolist()[:10] == list(range(10))


def test_npy_is_mapped_and_not_read(tmp_path, x):
    np.save(tmp_path / "x.npy", x)
    found = read_input(str(tmp_path / "x.npy"))
    assert isinstance(found.X, np.memmap)
    assert not found.X.flags.writeable
    np.testing.assert_array_equal(found.X, x)
    assert found.labels is None


@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_is_mapped_where_it_is_not_compressed(tmp_path, x, order):
    path = tmp_path / "x.npz"
    x = np.asarray(x, order=order)
    np.savez(path, other=np.zeros(3), X=x)
    found = read_input(str(path)).X
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, x)
    np.savez_compressed(path, other=np.zeros(3), X=x)
    np.testing.assert_array_equal(read_input(str(path)).X, x)


@pytest.mark.parametrize("beside", [{}, {"labels": LABELS}, {"other": np.zeros(2)}])
def test_npz_holds_x(tmp_path, x, beside):
    np.savez(tmp_path / "x.npz", X=x, **beside)
    found = read_input(str(tmp_path / "x.npz"))
    np.testing.assert_array_equal(found.X, x)
    assert (found.labels is None) == ("labels" not in beside)


def test_npz_may_hold_one_array_of_any_name(tmp_path, x):
    np.savez(tmp_path / "x.npz", points=x)
    np.testing.assert_array_equal(read_input(str(tmp_path / "x.npz")).X, x)


def test_zarr_holds_an_array_or_a_group_with_x(tmp_path, x):
    zarr.create_array(f"{tmp_path}/array.zarr", data=x)
    group = zarr.create_group(f"{tmp_path}/group.zarr")
    group.create_array("X", data=x)
    group.create_array("labels", data=LABELS)
    for name in ("array.zarr", "group.zarr", "group.zarr/"):
        found = read_input(f"{tmp_path}/{name}")
        assert isinstance(found.X, zarr.Array)
        np.testing.assert_array_equal(found.X[:], x)
        assert (found.labels is None) == ("group" not in name)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_of_both_versions(tmp_path, x, version):
    path = f"{tmp_path}/x.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=version)
    group.create_array("obsm/X_pca", data=x)
    group.create_array("kinds", data=LABELS)
    found = read_input(path, taken=Taken(key="obsm/X_pca", labels="kinds"))
    assert found.X.metadata.zarr_format == version
    np.testing.assert_array_equal(found.X[:], x)
    np.testing.assert_array_equal(found.labels, LABELS)


def test_one_array_of_several_is_chosen_by_its_name(tmp_path, x):
    path = f"{tmp_path}/x.npz"
    np.savez(path, X=x, other=x[:, :2], kinds=LABELS)
    found = read_input(path, taken=Taken(key="other", labels="kinds"))
    np.testing.assert_array_equal(found.X, x[:, :2])
    np.testing.assert_array_equal(found.labels, LABELS)
    with pytest.raises(InvalidInputError, match=r"x\.npz holds X, other, kinds; it has no Y"):
        read_input(path, taken=Taken(key="Y"))


def test_zarr_may_be_at_a_url(x):
    zarr.create_array("memory://data/x.zarr", data=x)
    np.testing.assert_array_equal(read_input("memory://data/x.zarr").X[:], x)


def _as_csv(file, x):
    pd.DataFrame(x).rename(columns="c{}".format).to_csv(file, index=False)


def _as_parquet(file, x):
    pd.DataFrame(x).rename(columns=str).to_parquet(file)


def _as_h5ad(file, x):
    with h5py.File(file, "w") as opened:
        write_elem(opened, "X", x)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        ("npy", np.save),
        ("npz", np.savez),
        ("csv", _as_csv),
        ("parquet", _as_parquet),
        ("h5ad", _as_h5ad),
    ],
)
def test_every_format_may_be_at_a_url_and_may_be_damaged(tmp_path, x, suffix, write):
    data = io.BytesIO()
    write(data, x)
    url = f"memory://data/x.{suffix}"
    with fsspec.open(url, "wb") as file:
        file.write(data.getvalue())
    np.testing.assert_array_equal(read_input(url).X, x)
    with pytest.raises(InvalidInputError, match=rf"memory://none\.{suffix} cannot be opened"):
        read_input(f"memory://none.{suffix}")
    path = tmp_path / f"x.{suffix}"
    for content in (b"", data.getvalue()[: len(data.getvalue()) // 2], b"\x80\x93" * 99):
        path.write_bytes(content)
        # Of a .csv that ends too early, the line where it does shows it: values are missing.
        with pytest.raises(InvalidInputError, match=rf"x\.{suffix}( cannot be read as a|: column)"):
            read_input(str(path))


def test_a_package_that_a_protocol_needs_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ImportError, match=r"gs://bucket/x\.npy needs a package: .*gcsfs"):
        read_input("gs://bucket/x.npy")


@pytest.mark.parametrize("source", ["ftp://host/x.npy", "file:///x::ftp://host/x.npy"])
def test_other_protocols_are_refused(source):
    with pytest.raises(InvalidInputError, match=r"x\.npy is not a path or a URL of one of"):
        read_input(source)


def test_a_format_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ImportError, match=r'x\.csv needs pandas; pip install "dasksne\[files\]"'):
        read_input(f"{tmp_path}/x.csv")


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        ("flat.npy", np.zeros(5), r"flat\.npy .*\(5,\).* two dimensions"),
        ("complex.npy", np.zeros((5, 2), complex), r"complex\.npy .*complex128.* real"),
        ("text.npy", np.full((5, 2), "a"), r"text\.npy .* real numbers"),
        ("objects.npy", np.full((5, 2), None), r"objects\.npy .* without Python objects"),
        (
            "two.npz",
            {"a": np.zeros((5, 2)), "b": np.zeros(5)},
            r"two\.npz holds a, b; choose .*--key.* X",
        ),
        ("objects.npz", {"X": np.full((5, 2), None)}, r"objects\.npz .* without Python objects"),
        ("deep.npz", {"X": np.zeros((5, 2, 2))}, r"deep\.npz .*\(5, 2, 2\)"),
        (
            "labels.npz",
            {"X": np.zeros((5, 2)), "labels": np.zeros((5, 1))},
            r"labels of .*labels\.npz",
        ),
        ("rubbish.npy", b"rubbish", r"rubbish\.npy .* numpy\.save"),
        ("rubbish.npz", b"rubbish", r"rubbish\.npz .* numpy\.savez"),
        ("renamed.npz", NPY, r"renamed\.npz .* numpy\.savez"),
        ("x.txt", b"1 2 3", r"x\.txt .* \.npy, \.npz, \.zarr, \.csv, "),
    ],
)
def test_what_is_no_matrix_is_refused_by_name(tmp_path, name, arrays, message):
    path = tmp_path / name
    if isinstance(arrays, bytes):
        path.write_bytes(arrays)
    elif isinstance(arrays, dict):
        np.savez(path, **arrays)
    else:
        np.save(path, arrays)
    with pytest.raises(InvalidInputError, match=message):
        read_input(str(path))


def test_a_group_without_x_is_refused_by_what_it_holds(tmp_path, x):
    zarr.create_group(f"{tmp_path}/g.zarr").create_array("data", data=x)
    with pytest.raises(InvalidInputError, match=r"g\.zarr holds data; choose one with --key"):
        read_input(f"{tmp_path}/g.zarr")


@pytest.mark.parametrize("dtype", ["|O", "<f8"])
def test_no_pickle_is_read_from_a_zarr(tmp_path, dtype):
    """Version 2 may name it as a filter; what is in a pickle runs when it is read."""

    class Harm:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harm"),))

    array = {"zarr_format": 2, "shape": [9, 3], "chunks": [9, 3], "dtype": dtype, "order": "C"}
    array |= {"compressor": None, "fill_value": None, "filters": [{"id": "pickle", "protocol": 5}]}
    store = tmp_path / "x.zarr"
    store.mkdir()
    (store / ".zarray").write_text(json.dumps(array))
    (store / "0.0").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(InvalidInputError, match=r"x\.zarr cannot be read as a \.zarr"):
        read_input(str(store))
    assert not (tmp_path / "harm").exists()


def test_what_a_zarr_promises_and_no_memory_holds_is_refused(tmp_path, x):
    """Before anything is read; a lazy X of any shape is the plan's business."""
    store = tmp_path / "x.zarr"
    group = zarr.create_group(store)
    group.create_array("X", data=x)
    group.create_array("labels", data=LABELS)
    metadata = store / "labels" / "zarr.json"
    honest = metadata.read_text()
    metadata.write_text(json.dumps({**json.loads(honest), "shape": [10**13]}))
    with pytest.raises(StoreError, match=r"labels of .*x\.zarr has shape .* 80,000 GB"):
        read_input(str(store))
    metadata.write_text(honest)
    metadata = store / "X" / "zarr.json"
    grid = {"name": "regular", "configuration": {"chunk_shape": [10**12, 3]}}
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "chunk_grid": grid}))
    with pytest.raises(StoreError, match=r"a chunk of X has shape .* 24,000 GB"):
        as_collection(read_input(str(store)).X)


@pytest.mark.parametrize("name", ["none.npy", "none.npz", "none.zarr"])
def test_what_is_not_there_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=r"none\."):
        read_input(str(tmp_path / name))


def test_labels_are_numbers_or_texts_one_for_each_point(tmp_path):
    np.save(tmp_path / "l.npy", np.array(["a", "b"]))
    assert read_labels(str(tmp_path / "l.npy")).tolist() == ["a", "b"]
    np.save(tmp_path / "l.npy", np.zeros((2, 2)))
    with pytest.raises(InvalidInputError, match=r"\(2, 2\)"):
        read_labels(str(tmp_path / "l.npy"))


@pytest.mark.parametrize("labels", [LABELS, LABELS / 3, np.array(list("abcabcd")), None])
def test_labels_are_kept_in_a_run(tmp_path, labels):
    run = Run.locate(tmp_path / "run.zarr")
    run.create(overwrite=False)
    if labels is not None:
        keep_labels(run, labels)
        assert zarr.open_array(f"{tmp_path}/run.zarr/labels").shape == (7,)
    kept = kept_labels(run)
    assert (kept is None) == (labels is None)
    np.testing.assert_array_equal(kept, labels)


@pytest.mark.parametrize("labels", [np.array(list("abcabcd")), None])
def test_a_map_comes_back_from_each_format(tmp_path, x, labels):
    for suffix in ("npy", "npz", "csv"):
        write_map(f"{tmp_path}/map.{suffix}", x, labels)
    np.testing.assert_array_equal(np.load(tmp_path / "map.npy"), x)
    with np.load(tmp_path / "map.npz") as file:
        np.testing.assert_array_equal(file["embedding"], x)
        assert ("labels" in file) == (labels is not None)
    with (tmp_path / "map.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["sne0", "sne1", "sne2", "label"][: 3 + (labels is not None)]
    np.testing.assert_array_equal([[float(value) for value in row[:3]] for row in rows[1:]], x)
    if labels is not None:
        assert [row[3] for row in rows[1:]] == labels.tolist()


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".h5ad"])
def test_a_map_that_cannot_be_written_whole_leaves_the_one_before(tmp_path, x, monkeypatch, suffix):
    path = tmp_path / f"map{suffix}"
    write_map(str(path), x, None)
    before = path.read_bytes()

    def write(partial, *_):
        with Path(partial).open("r+b" if suffix == ".h5ad" else "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(writing.WRITERS, suffix, write)
    with pytest.raises(OSError, match="No space left"):
        write_map(str(path), 2.0 * x, None)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".npy", ".h5ad"])
def test_a_map_goes_where_a_link_leads(tmp_path, x, suffix):
    """To a file of another name, which keeps its mode and, of a .h5ad, what else it holds."""
    blob, link = tmp_path / "blob", tmp_path / f"map{suffix}"
    made = anndata.AnnData(np.zeros((7, 2)))
    made.write_h5ad(blob) if suffix == ".h5ad" else np.save(link, 0.0 * x)
    if suffix == ".npy":
        link.rename(blob)
    blob.chmod(0o600)
    link.symlink_to(blob)
    write_map(str(link), x, None)
    assert link.is_symlink()
    assert blob.stat().st_mode & 0o777 == 0o600
    if suffix == ".h5ad":
        found = anndata.read_h5ad(link)
        assert found.shape == (7, 2)
        np.testing.assert_array_equal(found.obsm["X_sne"], x)
    else:
        np.testing.assert_array_equal(np.load(link), x)
    assert sorted(tmp_path.iterdir()) == sorted([blob, link])


def test_a_damaged_compressed_npz_is_named(tmp_path, x):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, X=np.tile(x, (100, 1)))
    damaged = bytearray(path.read_bytes())
    damaged[100:300] = bytes(200)
    path.write_bytes(damaged)
    with pytest.raises(InvalidInputError, match=r"x\.npz cannot be read as a \.npz"):
        read_input(str(path))


def test_an_unknown_format_is_refused(tmp_path, x):
    with pytest.raises(InvalidInputError, match=r"map\.xls .*\.npy, \.npz, \.csv"):
        write_map(f"{tmp_path}/map.xls", x, None)

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.core.attributes import Attributes

import dasksne
from dasksne.checksums import CHECKSUM, checksum
from dasksne.errors import DamageError, StoreError
from dasksne.finished import CALIBRATION, create_calibration, finish_block, finished_blocks
from dasksne.kernels.calibration import calibrate
from dasksne.run import CHECKED, COMPRESSED, COPY, Run


@pytest.fixture
def run(tmp_path):
    run = Run.locate(tmp_path / "run.zarr")
    run.create(overwrite=False)
    run.update(id="first")
    return run


def chunk_files(path):
    return [file for file in Path(path).rglob("c/**/*") if file.is_file()]


# Where it is


def test_a_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Run.locate("run.zarr").path == tmp_path / "run.zarr"
    assert Run.locate(f"file://{tmp_path}/run.zarr") == Run.locate("run.zarr")


def test_a_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Run.locate("~/run.zarr").path == tmp_path / "run.zarr"


@pytest.mark.parametrize(
    "url", ["http://host/run.zarr", "github://a:b@/run", "simplecache::s3://bucket/run"]
)
def test_protocols_that_could_be_anything_are_refused(url):
    with pytest.raises(StoreError, match="one of the protocols file, s3"):
        Run.locate(url)


def test_a_handle_is_picklable():
    run = Run.locate("s3://bucket/run.zarr", {"anon": True})
    assert pickle.loads(pickle.dumps(run)) == run  # noqa: S301
    assert run.path is None


# What is there


def test_a_run_is_not_replaced_unasked(run):
    run.update(status="started")
    with pytest.raises(StoreError, match=r"holds a run already.*resume.*overwrite"):
        run.create(overwrite=False)
    run.create_array("X", (3, 2), (3, 2))
    run.create(overwrite=True)
    assert not run.has("X")


@pytest.mark.parametrize("left", [None, "zarr.0123abcd.partial"])
def test_an_empty_folder_may_become_a_run(tmp_path, left):
    """Or one that a process was killed in before it had made a run of it."""
    if left is not None:
        (tmp_path / left).write_text("{")
    Run.locate(tmp_path).create(overwrite=False)


def a_file(path):
    path.write_text("mine")


def a_folder(path):
    path.mkdir()
    (path / "mine").write_text("mine")


def an_array(path):
    zarr.save_array(str(path), np.zeros(3))


def a_group(path):
    zarr.open_group(str(path), mode="w")


def an_old_group(path):
    zarr.open_group(str(path), mode="w", zarr_format=2)


def nonsense(path):
    path.mkdir()
    (path / "zarr.json").write_text("{nonsense")


@pytest.mark.parametrize("make", [a_file, a_folder, an_array, a_group, an_old_group, nonsense])
@pytest.mark.parametrize("overwrite", [False, True])
def test_something_else_is_left_alone(tmp_path, make, overwrite):
    path = tmp_path / "something"
    make(path)
    before = sorted((file, file.is_file() and file.read_bytes()) for file in tmp_path.rglob("*"))
    with pytest.raises(StoreError, match="exists and is not a dasksne run"):
        Run.locate(path).create(overwrite=overwrite)
    with pytest.raises(StoreError, match="is not a dasksne run"):
        Run.locate(path).require()
    after = sorted((file, file.is_file() and file.read_bytes()) for file in tmp_path.rglob("*"))
    assert after == before


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Run.locate(tmp_path / "file" / "run.zarr").create(overwrite=False)


def test_a_run_of_another_format_is_not_read(run):
    run.require()
    run.update(format=99)
    with pytest.raises(StoreError, match="run format 99; this version of dasksne reads 6"):
        run.require()


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(StoreError, match="is not a dasksne run"):
        Run.locate(tmp_path / "run.zarr").require()


def test_deleting_what_is_not_there_is_nothing(run):
    run.delete("X")
    run.create_array("X", (3,), (3,))
    run.delete("X")
    assert not run.has("X")
    run.delete()
    run.delete()
    assert not run.path.exists()


def test_deletion_leaves_nothing_beside_the_run(run, tmp_path):
    run.create_array("X", (3,), (3,))
    run.delete("X")
    run.delete()
    assert list(tmp_path.iterdir()) == []


def test_a_deletion_that_was_cut_short_is_ended_by_the_next_run(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("dasksne.run.shutil.rmtree", lambda *_args, **_options: None)
        run.delete()
    assert [path.name for path in tmp_path.iterdir()] == [".run.zarr.deleting"]
    run.create(overwrite=False)
    assert list(tmp_path.iterdir()) == [run.path]


# What it holds


def test_attributes_change_together(run, monkeypatch):
    writes = []
    replace = Attributes.__setitem__
    monkeypatch.setattr(
        Attributes,
        "__setitem__",
        lambda self, key, value: (writes.append(key), replace(self, key, value))[1],
    )
    run.update(status="started", exponent=3)
    assert writes == ["dasksne"]
    assert run.group(path=COPY).attrs.asdict() == run.group().attrs.asdict()
    assert run.state == {"format": 6, "status": "started", "id": "first", "exponent": 3}


def test_damaged_attributes_are_restored_from_their_copy(run, rng):
    """Each bit of them, in turn."""
    run.update(status="started", mean=[0.1, -2.5])
    expected, file = run.state, run.path / "zarr.json"
    content = file.read_bytes()
    for at in rng.choice(len(content), size=150, replace=False):
        changed = bytearray(content)
        changed[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run.require()
            assert run.state == expected
        if caught:
            assert file.read_bytes() == content
            assert "the copy of them was used" in str(caught[0].message)
    file.unlink()
    with pytest.warns(UserWarning, match="the copy of them was used"):
        run.update(status="finished")
    assert run.state == {**expected, "status": "finished"}


def test_attributes_whose_copy_is_damaged_too(run):
    for path in (run.path, run.path / COPY):
        file = path / "zarr.json"
        file.write_text(file.read_text().replace('"first"', '"worst"'))
    with pytest.raises(
        DamageError, match=r"attributes of .*: the checksum .* differs, and their copy is no"
    ):
        run.require()
    with pytest.raises(DamageError):
        run.update(status="started")
    run.create(overwrite=True)


def test_a_description_is_there_however_damaged(run):
    """Else what Zarr cannot read, such as weights, would be taken for what a run has not."""
    run.create_array("sample_weight", (3,), (3,))
    file = run.path / "sample_weight" / "zarr.json"
    for what in ("data_type", "node_type", "shape"):
        content = file.read_text()
        file.write_text(content.replace(what, "x" + what[1:]))
        assert run.has("sample_weight")
        with pytest.raises(DamageError, match=r"^sample_weight of "):
            run.read_whole("sample_weight")
        file.write_text(content)
    assert not run.has("sigma")


@pytest.mark.parametrize("codecs", [COMPRESSED, CHECKED], ids=["compressed", "checked"])
@pytest.mark.parametrize("byte", [0, 100, -1])
def test_no_flipped_bit_passes_for_data(run, codecs, byte, rng):
    run.create_array("X", (40, 3), (40, 3), codecs=codecs)
    run.write("X", slice(0, 40), rng.normal(size=(40, 3)))
    (file,) = chunk_files(run.path)
    content = bytearray(file.read_bytes())
    content[byte] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamageError, match=r"^X of "):
        run.read("X")


def test_a_missing_chunk_is_not_zero(run):
    run.create_array("X", (40, 3), (10, 3))
    run.write("X", slice(10, 20), np.zeros((10, 3)))
    assert len(chunk_files(run.path)) == 1, "a chunk of zeros is written like any other"
    found = run.read("X")
    np.testing.assert_array_equal(found[10:20], 0.0)
    assert np.isnan(np.delete(found, np.s_[10:20], axis=0)).all()


def test_a_block_is_finished_when_its_last_array_is_there(run, rng):
    distances = rng.random((30, 30))
    blocks = [slice(0, 16), slice(16, 30)]
    create_calibration(run, 30, 16)
    assert finished_blocks(run, blocks) == ({}, [])
    found = calibrate(distances[16:], 16, 5.0)
    for name in CALIBRATION[:-1]:  # all but the last that is written
        run.write(name, blocks[0], np.ones(16))
    finish_block(run, blocks[1], found)
    (kept,) = finished_blocks(run, blocks)[0].items()
    assert kept[0] == 16
    for values, expected in zip(kept[1], found, strict=True):
        np.testing.assert_array_equal(values, expected)


# A stranger's


def rewrite(path, **changes):
    """Change what an array's description says, and its checksum with it."""
    file = path / "zarr.json"
    said = {**json.loads(file.read_text()), **changes}
    chunks = said["chunk_grid"]["configuration"]["chunk_shape"]
    said["attributes"] = {CHECKSUM: checksum([said["shape"], chunks, said["data_type"]])}
    file.write_text(json.dumps(said))


def grid(*chunks):
    return {"name": "regular", "configuration": {"chunk_shape": chunks}}


@pytest.mark.parametrize("method", ["read", "read_whole"])
def test_a_shape_that_no_memory_holds_is_not_read(run, method):
    run.create_array("X", (40, 3), (40, 3))
    rewrite(run.path / "X", shape=[10**12, 3])
    said = r"X of .* has shape \(1000000000000, 3\), 24,000 GB, and cannot be read into the"
    with pytest.raises(StoreError, match=said):
        getattr(run, method)("X")
    assert np.isnan(run.read("X", slice(0, 40))).all()


def test_a_chunk_that_no_memory_holds_is_not_read(run):
    run.create_array("X", (40, 3), (40, 3))
    rewrite(run.path / "X", chunk_grid=grid(10**12, 3))
    with pytest.raises(StoreError, match=r"a chunk of X of .* has shape \(1000000000000, 3\)"):
        run.read("X", slice(0, 1))


def test_what_a_strangers_run_promises_is_refused(tmp_path, rng):
    store = tmp_path / "run.zarr"
    dasksne.SNE(perplexity=5, annealing=None, max_iter=2, store=store).fit(rng.normal(size=(40, 3)))
    rewrite(store / "embedding", shape=[10**12, 2])
    with pytest.raises(StoreError, match=r"embedding of .* cannot be read into"):
        _ = dasksne.open_run(store).embedding
    rewrite(store / "P", chunk_grid=grid(10**12, 40))
    with pytest.raises(StoreError, match=r"a chunk of P of .* cannot be read into"):
        dasksne.open_run(store).P.compute(scheduler="sync")


# In a bucket


def test_a_bucket_holds_a_run(bucket, rng):
    X = rng.normal(size=(40, 3))
    model = dasksne.SNE(perplexity=5, max_iter=5, store="s3://bucket/run.zarr", save=("Q",))
    Y = model.fit_transform(X)
    run = dasksne.open_run("s3://bucket/run.zarr")
    np.testing.assert_array_equal(run.embedding, Y)
    np.testing.assert_array_equal(run.X.compute(scheduler="sync"), X)
    np.testing.assert_array_equal(dasksne.resume("s3://bucket/run.zarr").embedding_, Y)
    with pytest.raises(StoreError, match="holds a run already"):
        model.fit(X)
    model.set_params(overwrite=True, save=()).fit(X)
    assert not run.run.has("Q")
    assert any(bucket.store)


def test_something_else_in_a_bucket_is_left_alone(bucket):
    zarr.open_array("s3://bucket/mine", mode="w", shape=(3,), chunks=(3,), dtype="f8")
    before = dict(bucket.store)
    with pytest.raises(StoreError, match="exists and is not a dasksne run"):
        Run.locate("s3://bucket/mine").create(overwrite=True)
    assert bucket.store == before

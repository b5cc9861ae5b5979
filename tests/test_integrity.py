"""A damaged store: what is damaged is found, said, and computed again to the same bits."""

import errno
import os
import random
import subprocess
import warnings
from pathlib import Path

import dask
import numpy as np
import pytest
from same import assert_same_run

import dasksne
from dasksne import affinities, checkpoint
from dasksne.errors import DamageError, StoreError
from dasksne.run import COPY, Run

pytestmark = pytest.mark.slow

N = 96
OPTIONS = {"perplexity": 6.0, "annealing": None, "max_iter": 8, "random_state": 1}
LAYOUT = {"block_rows": 32, "shards": 3}


@pytest.fixture(autouse=True)
def on_this_thread():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture
def data(rng):
    return rng.normal(size=(N, 4))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "run.zarr"


def sne(**options):
    return dasksne.SNE(**{**OPTIONS, **LAYOUT, **options})


def stopped_run(data, store, **options):
    """A run with all of P, stopped in the middle of its iterations."""

    def stop(event):
        if event.iteration == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sne(store=store, callbacks=stop, checkpoint_seconds=0, **options).fit(data)


def count_blocks(monkeypatch):
    original, seen = affinities._calibrate_block, []

    def calibrate(rows, *args):
        seen.append(rows.start)
        return original(rows, *args)

    monkeypatch.setattr(affinities, "_calibrate_block", calibrate)
    return seen


def chunks(store, *names):
    return sorted(
        file for name in names for file in (store / name).rglob("*")
        if file.is_file() and "c" in file.relative_to(store).parts
    )  # fmt: skip


def flip(file, chance):
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def cut(file, _chance):
    file.write_bytes(file.read_bytes()[:-5])


def remove(file, _chance):
    file.unlink()


@pytest.mark.parametrize("damage", [flip, cut, remove])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("P", {}),
        ("P", {"tail_mass": 0.05}),
        ("distances", {"save": ("distances",)}),
        ("precision", {}),
    ],
    ids=["P", "sparse P", "distances", "precision"],
)
def test_a_damaged_block_alone_is_computed_again(data, store, monkeypatch, damage, name, options):
    expected = sne(**options).fit(data)
    stopped_run(data, store, **options)
    whole = dasksne.open_run(store).P.compute()
    files = chunks(store, name)
    damage(files[len(files) // 2], random.Random(0))
    seen = count_blocks(monkeypatch)
    with pytest.warns(
        UserWarning, match="1 of 3 row blocks of .* are damaged and will be computed"
    ):
        found = dasksne.resume(store)
    assert seen == [32]
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)
    np.testing.assert_array_equal(dasksne.open_run(store).P.compute(), whole)


@pytest.mark.parametrize("seed", range(40))
def test_every_flipped_bit_is_found(tmp_path, stopped, seed):
    """In P, in what belongs to it, and in checkpoints.

    A frame of zstd has a bit that means nothing: where a flip is not found, nothing has changed.
    """
    kept, expected = stopped
    store = tmp_path / "run.zarr"
    subprocess.run(["cp", "-r", kept, store], check=True)
    chance = random.Random(seed)
    current = Run.locate(store).state[checkpoint.POINTER][0]
    places = ("P", "precision", "normaliser", "kept") if seed % 2 else (f"checkpoints/{current}",)
    file = chance.choice(chunks(store, *places))
    flip(file, chance)
    name = str(file.relative_to(store)).partition("/c/")[0]
    try:
        changed = not np.array_equal(Run.locate(store).read(name), Run.locate(kept).read(name))
    except DamageError:
        changed = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = dasksne.resume(store)
    assert any("damaged" in str(warning.message) for warning in caught) == changed
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)


@pytest.mark.parametrize("seed", range(60))
def test_no_flipped_bit_of_a_description_passes(tmp_path, stopped, finished, seed):
    """Of attributes, arrays and groups, of a run that goes on and of one that is read."""
    kept, expected = (stopped, finished)[seed % 2]
    store = tmp_path / "run.zarr"
    subprocess.run(["cp", "-r", kept, store], check=True)
    files = sorted(store.rglob("zarr.json"))
    flip(files[seed // 2 % len(files)], random.Random(seed))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        try:
            found = dasksne.resume(store)
        except StoreError:
            return
    assert_same_run(found, expected)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    data = np.random.default_rng(0).normal(size=(N, 4))
    store = tmp_path_factory.mktemp("kept") / "run.zarr"
    with dask.config.set(scheduler="sync"):
        stopped_run(data, store)
        return store, sne().fit(data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    data = np.random.default_rng(0).normal(size=(N, 4))
    store = tmp_path_factory.mktemp("kept") / "run.zarr"
    options = {"scale": True, "sample_weight": 1.0 + np.arange(N) % 2}
    weights = options.pop("sample_weight")
    with dask.config.set(scheduler="sync"):
        return store, sne(store=store, **options).fit(data, sample_weight=weights)


@pytest.mark.parametrize("name", ["P", "kept"])
@pytest.mark.parametrize("damage", ["", '{"zarr_format": 3}', "another shape"])
def test_an_array_without_its_description_is_made_anew(data, store, monkeypatch, name, damage):
    expected = sne().fit(data)
    stopped_run(data, store)
    file = store / name / "zarr.json"
    file.write_text(file.read_text().replace("96", "98") if "shape" in damage else damage)
    seen = count_blocks(monkeypatch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = dasksne.resume(store)
    assert str(caught[0].message).startswith(f"{name} of {store} cannot be read as what was")
    assert seen == [0, 32, 64]
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)


@pytest.mark.parametrize(
    "place", ["P/zarr.json", "P/c", "kept/zarr.json", "precision/c", "X/c", "checkpoints", ""]
)
@pytest.mark.parametrize("error", [errno.EMFILE, MemoryError], ids=str)
def test_an_error_that_passes_costs_nothing(tmp_path, stopped, monkeypatch, place, error):
    kept, expected = stopped
    store = tmp_path / "run.zarr"
    subprocess.run(["cp", "-r", kept, store], check=True)
    before = contents(store)
    read_bytes = Path.read_bytes

    def fail(path):
        if path.is_relative_to(store) and str(path.relative_to(store)).startswith(place):
            raise OSError(error, os.strerror(error)) if isinstance(error, int) else error
        return read_bytes(path)

    said = (MemoryError, None) if error is MemoryError else (StoreError, "cannot be read now: .*24")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        with pytest.raises(said[0], match=said[1]):
            dasksne.resume(store)
    assert contents(store) == before
    np.testing.assert_array_equal(dasksne.resume(store).embedding_, expected.embedding_)


def contents(store):
    """Return all files of a run but its attributes, which have the plan for the memory there is."""
    files = (path for path in store.rglob("*") if path.is_file())
    own = {store / "zarr.json", store / COPY / "zarr.json"}
    return {path: path.read_bytes() for path in files if path not in own}


@pytest.mark.parametrize("damage", [flip, remove, "other data"])
@pytest.mark.parametrize("dtype", [float, int])
def test_damaged_data_is_refused(data, store, damage, dtype):
    data = (10 * data).astype(dtype)
    stopped_run(data, store)
    if damage == "other data":
        Run.locate(store).array("X", "r+")[3, 1] = 7
    else:
        damage(chunks(store, "X")[0], random.Random(0))
    with pytest.raises(
        StoreError, match=r"X in .* is not what it was when the run began .*; start"
    ):
        dasksne.resume(store)


def test_a_damaged_map_is_made_again(data, store):
    expected = sne(store=store).fit(data)
    chunks(store, "embedding")[0].unlink()
    with pytest.warns(UserWarning, match="embedding of .* a chunk is missing; it is made again"):
        found = dasksne.resume(store)
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)
    np.testing.assert_array_equal(dasksne.open_run(store).embedding, expected.embedding_)


@pytest.mark.parametrize("tail_mass", [0.0, 0.05])
@pytest.mark.parametrize("damage", [flip, remove])
def test_damage_while_it_is_read_stops_with_a_checkpoint(data, store, damage, tail_mass):
    """S on disk is made anew by a resume."""

    def spoil(event):
        if event.iteration == 4:
            damage(chunks(store, "S")[1], random.Random(0))

    options = {"p_storage": "zarr", "tail_mass": tail_mass}
    with pytest.raises(StoreError, match=r"^S") as caught:
        sne(store=store, callbacks=spoil, **options).fit(data)
    assert "go on with: dasksne resume" in caught.value.__notes__[0]
    found = dasksne.resume(store)
    np.testing.assert_array_equal(found.embedding_, sne(**options).fit(data).embedding_)


# Where nothing can be written


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")


@pytest.fixture
def mount(tmp_path):
    """A small disk of its own, and how to mount it anew."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def again(options):
        subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)

    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], check=False)
    if made.returncode != 0:
        pytest.skip("this system does not let root mount a tmpfs")
    yield folder, again
    subprocess.run(["umount", folder], check=True)


@as_root
def test_a_full_disk_stops_a_run_that_goes_on_once_there_is_room(data, mount):
    folder, _ = mount
    store, filler = folder / "run.zarr", folder / "filler"
    expected = sne().fit(data)

    def fill(event):
        if event.iteration == 4:
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(b"x" * 1024):
                        pass
                except OSError:
                    pass

    with pytest.raises(StoreError, match=r"the disk of .* is full") as caught:
        sne(store=store, callbacks=fill, checkpoint_seconds=0).fit(data)
    assert caught.value.__notes__[0].endswith(f"dasksne resume {store}, once there is room")
    with pytest.raises(StoreError, match=r"the disk of .* is full"):
        dasksne.resume(store)
    filler.unlink()
    found = dasksne.resume(store)
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)


@as_root
def test_a_disk_that_fills_among_the_affinities(data, mount):
    folder, again = mount
    store = folder / "run.zarr"
    again("size=220k")
    with pytest.raises(StoreError, match="is full"):
        sne(store=store, save=("distances",)).fit(data)
    again("size=4m")
    found = dasksne.resume(store)
    np.testing.assert_array_equal(found.embedding_, sne().fit(data).embedding_)


@as_root
def test_a_disk_that_is_read_only(data, mount):
    folder, again = mount
    finished, started = folder / "finished.zarr", folder / "started.zarr"
    again("size=4m")
    expected = sne(store=finished).fit(data)
    stopped_run(data, started)
    again("ro")
    np.testing.assert_array_equal(dasksne.resume(finished).embedding_, expected.embedding_)
    run = dasksne.open_run(started)
    np.testing.assert_array_equal(run.P.compute(), dasksne.open_run(finished).P.compute())
    with pytest.raises(StoreError, match="Read-only file system"):
        dasksne.resume(started)
    with pytest.raises(StoreError, match="Read-only file system"):
        sne(store=Path(folder / "new.zarr")).fit(data)

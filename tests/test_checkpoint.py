import json
import threading

import numpy as np
import pytest
from zarr.core.attributes import Attributes

from dasksne import checkpoint
from dasksne.run import Run


@pytest.fixture
def run(tmp_path):
    run = Run.locate(tmp_path / "run.zarr")
    run.create(overwrite=False)
    return run


def values(number, rng):
    return {
        "iteration": number,
        "cost": 0.1 * number,
        "stopped": None,
        "reason": "text",
        "y": rng.normal(size=(20, 2)),
        "pairs": np.empty((0, 20, 2)),
        "history": rng.normal(size=(number, 7)),
    }


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        if not isinstance(value, np.ndarray):
            assert found[name] == value


def folder(run, name):
    return run.path / "checkpoints" / name


def test_what_is_saved_comes_back(run, rng):
    expected = values(3, rng)
    checkpoint.save(run, expected)
    found, damaged = checkpoint.load(run)
    assert_same(found, expected)
    assert damaged == []


def test_arrays_in_a_tuple_come_back_as_one(run, rng):
    pairs = tuple(rng.normal(size=(20, 2)) for _ in range(3))
    checkpoint.save(run, {"pairs": pairs, "none": ()})
    found, _ = checkpoint.load(run)
    np.testing.assert_array_equal(found["pairs"], pairs)
    assert found["none"].size == 0


def test_without_one_there_is_none(run):
    assert checkpoint.load(run) == (None, [])


def test_the_last_two_are_kept(run, rng):
    for number in range(1, 6):
        checkpoint.save(run, values(number, rng))
        kept = sorted(path.name for path in (run.path / "checkpoints").iterdir() if path.is_dir())
        assert len(kept) == min(number, 2)
        assert checkpoint.load(run)[0]["iteration"] == number


def flip_a_byte(run, name):
    file = next(folder(run, name).glob("y/c/0/0"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def delete_a_chunk(run, name):
    next(folder(run, name).glob("y/c/0/0")).unlink()


def cut_a_chunk(run, name):
    file = next(folder(run, name).glob("y/c/0/0"))
    file.write_bytes(file.read_bytes()[:10])


def delete_an_array(run, name):
    (folder(run, name) / "y" / "zarr.json").unlink()


def change_a_value(run, name):
    file = folder(run, name) / "zarr.json"
    meta = json.loads(file.read_text())
    meta["attributes"]["kept"]["values"]["cost"] += 1e-9
    file.write_text(json.dumps(meta))


def empty_its_attributes(run, name):
    (folder(run, name) / "zarr.json").write_text("")


def delete_it(run, name):
    run.delete(f"checkpoints/{name}")


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        delete_a_chunk,
        cut_a_chunk,
        delete_an_array,
        change_a_value,
        empty_its_attributes,
        delete_it,
    ],
)
def test_a_damaged_one_falls_back_to_the_one_before(run, rng, damage):
    before = values(1, rng)
    checkpoint.save(run, before)
    checkpoint.save(run, values(2, rng))
    damage(run, "00000002")
    found, damaged = checkpoint.load(run)
    assert_same(found, before)
    assert damaged == ["00000002"]
    damage(run, "00000001")
    assert checkpoint.load(run) == (None, ["00000002", "00000001"])


def test_a_sound_one_is_not_given_up_for_one_that_is_damaged(run, rng):
    for number in (1, 2):
        checkpoint.save(run, values(number, rng))
    flip_a_byte(run, "00000002")
    checkpoint.drop(run, checkpoint.load(run)[1])
    checkpoint.save(run, values(3, rng))
    flip_a_byte(run, checkpoint._names(run)[0])
    assert checkpoint.load(run)[0]["iteration"] == 1


def test_no_damage_to_a_file_crashes_or_passes(run, rng):
    """Flip bits all over the newest: it reads as what was written, or as damaged."""
    before, expected = values(1, rng), values(2, rng)
    checkpoint.save(run, before)
    checkpoint.save(run, expected)
    files = [path for path in folder(run, "00000002").rglob("*") if path.is_file()]
    for file in files:
        content = file.read_bytes()
        for at in rng.integers(len(content), size=6):
            changed = bytearray(content)
            changed[at] ^= 1 << int(rng.integers(8))
            file.write_bytes(changed)
            found, damaged = checkpoint.load(run)
            assert_same(found, before if damaged else expected)
        file.write_bytes(content)
    assert checkpoint.load(run)[1] == []


def test_after_damage_saving_goes_on(run, rng):
    checkpoint.save(run, values(1, rng))
    checkpoint.save(run, values(2, rng))
    flip_a_byte(run, "00000002")
    checkpoint.save(run, values(3, rng))
    assert checkpoint.load(run)[0]["iteration"] == 3


@pytest.mark.parametrize(
    ("where", "method", "call"),
    [
        (Run, "create_array", 3),
        (Run, "write", 2),
        (Attributes, "__setitem__", 1),
        (Attributes, "__setitem__", 2),
    ],
)
def test_dying_while_saving_leaves_the_one_before(run, rng, monkeypatch, where, method, call):
    before = values(1, rng)
    checkpoint.save(run, before)
    original, calls = getattr(where, method), []

    def die(*args, **options):
        calls.append(args)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(where, method, die)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(run, values(2, rng))
    found, damaged = checkpoint.load(run)
    assert_same(found, before)
    assert damaged == []
    checkpoint.save(run, values(3, rng))
    assert checkpoint.load(run)[0]["iteration"] == 3


def test_one_is_written_while_the_run_goes_on(run, rng, monkeypatch):
    go_on, written = threading.Event(), []

    def slow(*given):
        assert go_on.wait(60)
        written.append(given)
        return save(*given)

    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", slow)
    first, second, last = (values(number, rng) for number in (1, 2, 3))
    writer = checkpoint.Writer(run)
    writer.begin(first)
    assert written == []
    go_on.set()
    writer.begin(second)
    assert written[0] == (run, first)
    writer.finish(last)
    assert [given for _, given in written] == [first, second, last]
    assert_same(checkpoint.load(run)[0], last)


def test_what_stops_a_writer_is_raised_and_the_last_one_still_written(run, rng, monkeypatch):
    save, full = checkpoint.save, [True]

    def on_a_full_disk(*given):
        if full[0]:
            raise OSError("no space")
        save(*given)

    monkeypatch.setattr(checkpoint, "save", on_a_full_disk)
    writer = checkpoint.Writer(run)
    writer.begin(values(1, rng))
    with pytest.raises(OSError, match="no space"):
        writer.wait()
    writer.begin(values(2, rng))
    with pytest.raises(OSError, match="no space"):
        writer.begin(values(3, rng))
    full[0] = False
    last = values(4, rng)
    writer.finish(last)
    assert_same(checkpoint.load(run)[0], last)

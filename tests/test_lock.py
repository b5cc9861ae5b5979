"""One process at a time on a run; the lock goes with its owner."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import dask
import numpy as np
import pytest

import dasksne
from dasksne.errors import StoreError
from dasksne.lock import locked
from dasksne.run import Run

HOLD = """
    import sys
    from dasksne.lock import locked
    from dasksne.run import Run
    with locked(Run.locate(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path):
    return Run.locate(tmp_path / "run.zarr")


@pytest.fixture
def holder(run):
    """Another process that works on the run."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), run.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process


def test_the_second_is_refused_and_told_who_holds_it(run, holder):
    said = f"being worked on by process {holder.pid} on .* since .*; wait for it or stop it"
    with pytest.raises(StoreError, match=said), locked(run):
        pass


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_it_goes_with_its_owner(run, holder, end, tmp_path):
    holder.stdin.close() if end is None else holder.send_signal(end)
    holder.wait()
    with locked(run):
        text = next(tmp_path.iterdir()).read_text()
        assert text.startswith(f"process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []


def test_it_is_refused_within_a_process_too(run):
    with locked(run), pytest.raises(StoreError, match=f"process {os.getpid()}"), locked(run):
        pass


def test_what_has_no_folder_is_not_locked():
    with locked(None), locked(Run.locate("s3://bucket/run.zarr")):
        pass


def test_runs_are_locked(tmp_path, run, rng):
    """Neither a resume nor a replacement touches a run that is under way; looking is free."""
    X = rng.normal(size=(60, 3))
    refused = []

    def meanwhile(_event):
        for attempt in (dasksne.resume, lambda _store: sne.fit(X)):
            with pytest.raises(StoreError, match="being worked on") as caught:
                attempt(run.url)
            refused.append(str(caught.value))
        assert dasksne.open_run(run.url).status == "started"
        return True

    sne = dasksne.SNE(perplexity=5, annealing=None, store=run.url, overwrite=True)
    with dask.config.set(scheduler="sync"):
        stopped = dasksne.SNE(perplexity=5, annealing=None, store=run.url, callbacks=meanwhile).fit(
            X
        )
    assert len(refused) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]
    np.testing.assert_array_equal(dasksne.resume(run.url).embedding_, stopped.embedding_)


def test_a_place_that_cannot_be_locked(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match="cannot be locked"),
        locked(Run.locate(Path(tmp_path / "file" / "run.zarr"))),
    ):
        pass

"""Workers that see nothing of the driver's disk, and workers with less memory than P."""

import os
import subprocess
import sys
import time

import dask
import dask.array as da
import numpy as np
import pytest
from processes import cluster_of, kill

import dasksne
from dasksne.errors import StoreError
from dasksne.run import Run

BLIND = "2 workers do not see .*, the first of them tcp://.* live in the workers' memory"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:2 workers do not see")]

OPTIONS = {"perplexity": 8.0, "annealing": [20.0], "max_iter": 10, "random_state": 3}
LAYOUT = {"block_rows": 32, "shards": 4}
REFERENCE = {}


def may_unshare():
    done = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True)
    return os.geteuid() == 0 and done.returncode == 0


private = pytest.mark.skipif(not may_unshare(), reason="only root hides folders from a process")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What workers do not see."""
    return tmp_path_factory.mktemp("driver")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, folder):
    with cluster_of(tmp_path_factory.mktemp("cluster"), workers=0) as cluster:
        for _ in range(2):
            cluster.start_worker(hidden=folder)
        yield cluster


@pytest.fixture
def client(cluster):
    with cluster.client() as client:
        client.wait_for_workers(2, timeout=60)
        yield client


@pytest.fixture
def data(rng):
    return rng.normal(size=(200, 5))


def sne(**options):
    return dasksne.SNE(**{**OPTIONS, **LAYOUT, **options})


def on_threads(data, **options):
    """What no cluster has a part in, found once."""
    asked = repr(options)
    if asked not in REFERENCE:
        with dask.config.set(scheduler="threads"):
            REFERENCE[asked] = sne(**options).fit(data)
    return REFERENCE[asked]


@private
@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("options", [{}, {"p_storage": "recompute", "tail_mass": 0.01}], ids=str)
@pytest.mark.parametrize("kind", [np.asarray, lambda x: da.from_array(x, chunks=(60, 5))])
def test_a_run_that_only_the_driver_sees(folder, data, kind, options):
    store = folder / "run.zarr"
    with pytest.warns(UserWarning, match=BLIND):
        found = sne(store=store, overwrite=True, **options).fit(kind(data))
    expected = on_threads(data, **options)
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)
    run = dasksne.open_run(store)
    np.testing.assert_array_equal(run.embedding, expected.embedding_)
    assert np.isfinite(run.precision).all()
    assert not run.run.has("P")
    assert not run.run.has("S")


@private
@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("kind", [np.asarray, lambda x: da.from_array(x, chunks=(60, 5))])
def test_a_run_that_nobody_keeps(folder, data, kind):
    with dask.config.set({"temporary-directory": str(folder)}):
        found = sne().fit(kind(data))
    np.testing.assert_array_equal(found.embedding_, on_threads(data).embedding_)
    assert not list(folder.glob("dasksne-*"))


@private
@pytest.mark.usefixtures("client")
def test_it_is_stopped_and_goes_on(folder, data):
    """On the same workers, then on threads, without a block computed twice."""
    store = folder / "stopped.zarr"

    def stop_at(stage, iteration):
        def stop(event):
            if (event.stage, event.iteration) == (stage, iteration):
                raise KeyboardInterrupt

        return stop

    with pytest.raises(KeyboardInterrupt):
        sne(store=store, callbacks=stop_at(1, 4)).fit(data)
    kept = {file: file.stat().st_mtime_ns for file in (store / "kept" / "c").iterdir()}
    assert len(kept) == 7
    found = dasksne.resume(store)
    np.testing.assert_array_equal(found.embedding_, on_threads(data).embedding_)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


DRIVER = """
import sys, numpy, dasksne
from distributed import Client
client = Client(scheduler_file=sys.argv[1])
X = numpy.load(sys.argv[2])
dasksne.SNE(**{options}, store=sys.argv[3], checkpoint_seconds=0).fit(X)
"""


@private
@pytest.mark.cluster
@pytest.mark.usefixtures("client")
def test_its_driver_is_killed_and_another_goes_on(cluster, folder, data):
    store = folder / "killed.zarr"
    np.save(folder / "x.npy", data)
    code = DRIVER.format(options={**OPTIONS, **LAYOUT})
    command = [sys.executable, "-c", code, cluster.file, folder / "x.npy", store]
    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 600
        while not (store / "checkpoints").exists():
            assert driver.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        kill(driver)
    assert Run.locate(store).state["status"] == "started"
    found = dasksne.resume(store)
    np.testing.assert_array_equal(found.embedding_, on_threads(data).embedding_)


@private
@pytest.mark.cluster
def test_a_worker_that_comes_later_and_does_not_see_the_run_is_named(tmp_path, data, monkeypatch):
    monkeypatch.setattr("dasksne.executor.client.LOOK_SECONDS", 0.0)
    hidden = tmp_path / "driver"
    hidden.mkdir()
    store = hidden / "run.zarr"
    with cluster_of(tmp_path, workers=1) as cluster, cluster.client() as client:
        client.wait_for_workers(1, timeout=60)

        def join(event):
            if (event.stage, event.iteration) == (0, 2):
                cluster.start_worker(hidden=hidden)
                client.wait_for_workers(2, timeout=60)

        said = "1 workers that came while the run was under way do not see .*run.zarr, the first"
        with pytest.raises(StoreError, match=said) as caught:
            sne(store=store, callbacks=join).fit(data)
    assert caught.value.__notes__ == [f"the run is kept; go on with: dasksne resume {store}"]


@private
def test_a_worker_of_them_dies(cluster, client, folder, data):
    def swap(event):
        if (event.stage, event.iteration) == (1, 3):
            kill(cluster.workers.pop())
            cluster.start_worker(hidden=folder)

    found = sne(store=folder / "dies.zarr", callbacks=swap).fit(data)
    assert client.status == "running"
    np.testing.assert_array_equal(found.embedding_, on_threads(data).embedding_)


@private
@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("options", [{"p_storage": "zarr"}, {"save": ("distances",)}], ids=str)
def test_what_needs_the_disk_is_refused(folder, data, options):
    said = r"2 workers do not see .*, the first of them tcp://.* needs them to; use a folder or URL"
    with pytest.raises(StoreError, match=said):
        sne(store=folder / "refused.zarr", **options).fit(data)
    assert not (folder / "refused.zarr").exists()


@private
@pytest.mark.usefixtures("client")
def test_a_run_that_keeps_p_needs_workers_that_see_it(folder, data):
    store = folder / "seen.zarr"

    def stop(_):
        raise KeyboardInterrupt

    with dask.config.set(scheduler="threads"), pytest.raises(KeyboardInterrupt):
        sne(store=store, callbacks=stop).fit(data)
    with pytest.raises(
        StoreError, match=r"2 workers do not see .* a run that keeps P needs them to"
    ):
        dasksne.resume(store)


@pytest.mark.cluster
def test_p_larger_than_all_memory_is_read_from_the_store(tmp_path):
    X = np.random.default_rng(0).normal(size=(13_000, 5))
    with cluster_of(tmp_path, workers=0) as cluster:
        for _ in range(2):
            cluster.start_worker("--nanny", "--memory-limit", "600MiB")
        with cluster.client() as client:
            client.wait_for_workers(2, timeout=60)
            before = client.run(os.getpid)
            model = dasksne.SNE(annealing=None, max_iter=3, store=tmp_path / "run.zarr").fit(X)
            assert client.run(os.getpid) == before
    assert model.report_["p_storage"] == "zarr"
    assert model.report_["p_bytes"] > 2 * 600 * 2**20
    assert np.isfinite(model.embedding_).all()

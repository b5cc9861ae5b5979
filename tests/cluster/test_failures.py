"""Workers, drivers and schedulers that die, hang or come late: the same bits, or a way to go on."""

import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import dask
import numpy as np
import pytest
from processes import cluster_of, kill

import dasksne
from dasksne import affinities, checkpoint, repulsion
from dasksne.errors import ClusterError, ResourceError
from dasksne.executor.client import ClientExecutor
from dasksne.kernels.tiling import cheapest_tiling
from dasksne.run import Run

pytestmark = pytest.mark.slow

N = 300
SOME, ALL = 2, 20
"""Random deaths in the ordinary suite, and behind the marker."""
SEEDS = [
    *range(SOME),
    *(pytest.param(seed, marks=pytest.mark.cluster) for seed in range(SOME, ALL)),
]
OPTIONS = {"perplexity": 8.0, "annealing": [25.0], "max_iter": 25, "tol": 0.0, "random_state": 3}
LAYOUT = {"block_rows": 32, "shards": 4}
REFERENCE = {}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with cluster_of(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    cluster.replenish()
    with cluster.client() as client:
        client.wait_for_workers(2, timeout=60)
        yield client


@pytest.fixture
def data(rng):
    return rng.normal(size=(N, 5))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "run.zarr"


def sne(**options):
    return dasksne.SNE(**{**OPTIONS, **LAYOUT, **options})


def expected(data, sums=None):
    """The map that no failure disturbs; the same for every place that P is kept in."""
    if sums not in REFERENCE:
        with dask.config.set(scheduler="threads"):
            REFERENCE[sums] = sne().fit(data)
    return REFERENCE[sums]


def assert_same(found, reference):
    np.testing.assert_array_equal(found.embedding_, reference.embedding_)
    assert found.kl_divergence_ == reference.kl_divergence_


def at(stage, iteration, action):
    """A callback that acts once."""

    def callback(event):
        if (event.stage, event.iteration) == (stage, iteration):
            action()

    return callback


# Workers


@pytest.mark.usefixtures("client")
def test_products_that_blas_would_spread_over_threads_have_the_same_bits(rng):
    """Nobody told these workers to start with one thread of BLAS."""
    X = rng.normal(size=(3000, 50))
    model = dasksne.SNE(perplexity=5.0, annealing=None, max_iter=0, random_state=0)
    with dask.config.set(scheduler="threads"):
        reference = model.fit_transform(X)
    np.testing.assert_array_equal(model.fit_transform(X), reference)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_killed_at_any_moment(cluster, client, data, monkeypatch, seed):
    """While affinities are computed, by even seeds, or the map is; some time after tasks started.

    Large values too, which tasks take from each other, and Fourier sums of a map and of its blocks.
    """
    monkeypatch.setattr("dasksne.executor.client.INLINE_BYTES", 2_000)
    p_storage, sums = [("memory", N + 1), ("zarr", 100), ("recompute", None)][seed % 3]
    if sums is not None:
        monkeypatch.setattr(repulsion, "choose_tiling", cheapest_tiling)
        monkeypatch.setattr(repulsion, "FOURIER_ROWS", sums)
    reference = expected(data, sums)
    chance = random.Random(seed)
    name, tasks, starts = [("map", "_calibrate_block", 2), ("map_all", "_attract", 50)][seed % 2]
    left = chance.randrange(starts)
    timer = threading.Timer(chance.uniform(0.0, 0.05), cluster.kill_worker, [chance.randrange(2)])
    start_tasks = getattr(ClientExecutor, name)

    def start_tasks_and_kill(self, function, *arguments, **options):
        nonlocal left
        handles = start_tasks(self, function, *arguments, **options)
        # Where S is computed in each step, tasks are given what is made of it.
        if tasks in {getattr(given, "__name__", None) for given in (function, *arguments)}:
            left -= 1
            if left == -1:
                timer.start()
        return handles

    monkeypatch.setattr(ClientExecutor, name, start_tasks_and_kill)
    found = sne(p_storage=p_storage).fit(data)
    timer.join()
    assert client.status == "running"
    assert_same(found, reference)


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore:no worker is left")
def test_what_all_workers_held_is_made_again(cluster, client, data, monkeypatch):
    """Values sent out, shards and results: nothing of it is left on the workers that follow."""
    monkeypatch.setattr("dasksne.executor.client.INLINE_BYTES", 2_000)
    broadcast = ClientExecutor.broadcast
    sent = []

    def broadcast_and_kill(self, value, *readers):
        handle = broadcast(self, value, *readers)
        sent.append(handle)
        if len(sent) == 20:
            assert len(client.who_has([handle])[handle.key]) == 2
            for worker in cluster.workers:
                kill(worker)
            cluster.replenish()
        return handle

    monkeypatch.setattr(ClientExecutor, "broadcast", broadcast_and_kill)
    assert_same(sne().fit(data), expected(data))
    assert len(sent) > 20


@pytest.mark.cluster
def test_a_worker_that_comes_and_one_that_retires(cluster, client, data):
    def join():
        cluster.start_worker()
        client.wait_for_workers(3, timeout=60)

    def retire():
        client.retire_workers([min(client.nthreads())])

    callbacks = [at(0, 3, join), at(1, 3, retire)]
    assert_same(sne(callbacks=callbacks).fit(data), expected(data))
    assert len(client.nthreads()) == 2


@pytest.mark.cluster
@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("seconds", [3.0, 30.0])
def test_a_worker_that_hangs_for_a_while(cluster, data, seconds):
    def hang():
        pid = cluster.workers[0].pid
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(seconds, os.kill, [pid, signal.SIGCONT]).start()

    begun = time.monotonic()
    assert_same(sne(callbacks=at(1, 5, hang)).fit(data), expected(data))
    assert time.monotonic() - begun > seconds


@pytest.mark.cluster
def test_a_worker_that_hangs_for_good(tmp_path, data, monkeypatch):
    """The scheduler gives it up after the time that its configuration says."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL", "5s")
    with cluster_of(tmp_path) as cluster, cluster.client() as client:
        client.wait_for_workers(2, timeout=60)
        hang = at(1, 5, lambda: os.kill(cluster.workers[0].pid, signal.SIGSTOP))
        assert_same(sne(callbacks=hang).fit(data), expected(data))
        assert len(client.nthreads()) == 1


@pytest.mark.cluster
@pytest.mark.usefixtures("client")
def test_all_workers_gone_for_a_while(cluster, data):
    def change_the_guard():
        for worker in cluster.workers:
            kill(worker)
        threading.Timer(5.0, cluster.replenish).start()

    with pytest.warns(UserWarning, match="no worker is left; waiting up to 5 minutes for new ones"):
        found = sne(callbacks=at(1, 5, change_the_guard)).fit(data)
    assert_same(found, expected(data))


@pytest.mark.usefixtures("client")
def test_all_workers_gone_for_good(cluster, data, store):
    def kill_all():
        for worker in cluster.workers:
            kill(worker)

    with (
        dask.config.set({"dasksne.workers-timeout": "1s"}),
        pytest.warns(UserWarning, match="waiting up to 1s"),
        pytest.raises(ClusterError, match=r"within 1s; the time is dasksne\.workers-timeout") as e,
    ):
        sne(store=store, callbacks=at(1, 5, kill_all)).fit(data)
    assert e.value.__notes__ == [f"the run is kept; go on with: dasksne resume {store}"]
    with dask.config.set(scheduler="threads"):
        assert_same(dasksne.resume(store), expected(data))


@pytest.mark.cluster
def test_workers_that_are_paused_for_ever(tmp_path, data):
    """Their limit is less than Python and its packages take, and tasks would wait for ever."""
    with cluster_of(tmp_path, workers=0) as cluster, cluster.client() as client:
        cluster.start_worker("--no-nanny", "--memory-limit", "150MiB")
        client.wait_for_workers(1, timeout=60)
        said = "all 1 are paused: their memory is full before they hold anything; give workers more"
        with (
            dask.config.set({"dasksne.workers-timeout": "1s"}),
            pytest.warns(UserWarning, match=f"no worker takes tasks, as {said}; waiting up to 1s"),
            pytest.raises(ClusterError, match=f"no worker took tasks within 1s, as {said}"),
        ):
            sne().fit(data)


HUNGRY = """
def _calibrate_block(*_):
    import time
    taken = []
    while len(taken) < 100:
        taken.append(bytearray(b"x" * 10_000_000))
        time.sleep(0.02)
    time.sleep(5)
"""


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore:no worker is left")  # until its nanny has started it again
def test_a_task_that_kills_its_workers_is_named(tmp_path, data, store, monkeypatch):
    """Its rows, its worker's memory, the bytes of a block and the option that makes it smaller."""

    made = {"__name__": "__main__"}  # so that workers are sent its code
    exec(HUNGRY, made)  # noqa: S102
    monkeypatch.setattr(affinities, "_calibrate_block", made["_calibrate_block"])
    with cluster_of(tmp_path, workers=0) as cluster:
        cluster.start_worker("--nanny", "--memory-limit", "600MiB")
        said = r"calibrate_block of rows 0 to 300 was lost .* 4 times.*600\.00 MiB"
        with cluster.client() as client:
            client.wait_for_workers(1, timeout=60)
            with pytest.raises(ResourceError, match=said) as caught:
                sne(store=store, block_rows=320, annealing=None).fit(data)
    needs, how = caught.value.__notes__
    assert needs.startswith("a block of 300 rows needs about 2.9 MB: give workers more memory")
    assert "block_rows=" in needs
    assert "dasksne resume" in how


# The driver


DRIVER = """
    import time, numpy, dasksne
    from dasksne import affinities

    calibrate = affinities._calibrate_block

    def calibrate_slowly(*arguments):
        time.sleep(0.05)
        return calibrate(*arguments)

    affinities._calibrate_block = calibrate_slowly
    X = numpy.load({X!r})
    dasksne.SNE(**{options}, store={store!r}, checkpoint_seconds=0).fit(X)
"""


def start_driver(tmp_path, data, store, connect=""):
    np.save(tmp_path / "X.npy", data)
    code = connect + textwrap.dedent(DRIVER).format(
        X=str(tmp_path / "X.npy"), options={**OPTIONS, **LAYOUT}, store=str(store)
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)


def wait_until_started(store):
    run = Run.locate(store)
    while not (run.holds_a_run() and run.state["status"] == "started"):
        time.sleep(0.02)


def finished(store):
    """Which row blocks are recorded as finished."""
    chunks = store / "kept" / "c"
    return [int(file.name) for file in chunks.glob("*") if file.name.isdigit()]


def checkpoints(store):
    """How many were written so far."""
    names = checkpoint._names(Run.locate(store))
    return int(names[0]) if names else 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_driver_killed_at_any_moment(tmp_path, data, store, monkeypatch, seed):
    """While affinities are computed, by even seeds, or the map is, or a checkpoint written."""
    chance = random.Random(seed)
    left = chance.randrange(10) if seed % 2 == 0 else chance.randrange(45)
    done = [lambda: len(finished(store)), lambda: checkpoints(store)][seed % 2]
    driver = start_driver(tmp_path, data, store)
    wait_until_started(store)
    while done() < left:
        time.sleep(0.001)
    time.sleep(chance.uniform(0.0, 0.02))
    assert driver.poll() is None
    kill(driver)
    reference, before = expected(data), finished(store)
    computed = []
    calibrate = affinities._calibrate_block

    def count(rows, source, width, outputs):
        if outputs.run is not None:  # not of the stage before, which keeps none
            computed.append(rows.start // LAYOUT["block_rows"])
        return calibrate(rows, source, width, outputs)

    monkeypatch.setattr(affinities, "_calibrate_block", count)
    with dask.config.set(scheduler="threads"):
        found = dasksne.resume(store)
    assert_same(found, reference)
    assert sorted([*computed, *before]) == list(range(10))


@pytest.mark.cluster
@pytest.mark.usefixtures("client")
def test_a_driver_killed_on_a_cluster(cluster, tmp_path, data, store):
    """Another driver goes on, on the same workers."""
    connect = f"from distributed import Client; c = Client(scheduler_file={str(cluster.file)!r})\n"
    driver = start_driver(tmp_path, data, store, connect)
    wait_until_started(store)
    time.sleep(1.0)
    kill(driver)
    assert_same(dasksne.resume(store), expected(data))


# The scheduler


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore:no worker is left")  # the new scheduler is there before them
@pytest.mark.parametrize(("seconds", "patience", "status"), [(1, 60, "running"), (12, 3, "closed")])
def test_a_scheduler_that_comes_back(tmp_path, data, store, seconds, patience, status):
    """Told so, the driver waits for it, and goes on from its checkpoint by itself.

    Also where the client has given up meanwhile, after its own patience.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with cluster_of(tmp_path, port=port) as cluster, cluster.client(timeout=patience) as client:
        client.wait_for_workers(2, timeout=60)

        def restart():
            for process in (cluster.scheduler, *cluster.workers):
                kill(process)
            threading.Timer(
                seconds, lambda: (cluster.start_scheduler(), cluster.replenish())
            ).start()

        model = sne(store=store, checkpoint_seconds=0.1, callbacks=at(1, 5, restart))
        with (
            dask.config.set({"dasksne.scheduler-timeout": "60s"}),
            pytest.warns(UserWarning, match=f"127.0.0.1:{port} is lost; waiting up to 60s"),
        ):
            found = model.fit(data)
        assert client.status == status
    assert_same(found, expected(data))


def test_the_scheduler_dies(tmp_path, data, store):
    with cluster_of(tmp_path, workers=1) as cluster, cluster.client(timeout=3) as client:
        client.wait_for_workers(1, timeout=60)
        model = sne(store=store, callbacks=at(1, 5, lambda: kill(cluster.scheduler)))
        with pytest.raises(
            ClusterError, match=r"connection to the Dask scheduler at tcp://.* is lost"
        ) as caught:
            model.fit(data)
    assert caught.value.__notes__ == [f"the run is kept; go on with: dasksne resume {store}"]
    with dask.config.set(scheduler="threads"):
        assert_same(dasksne.resume(store), expected(data))

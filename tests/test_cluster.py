"""On a cluster of two processes: the same bits as on threads, also when a worker dies."""

import asyncio
import os
import signal
import uuid

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from dask.base import tokenize
from distributed import Client, Future, LocalCluster
from same import assert_same_map
from threadpoolctl import threadpool_info, threadpool_limits

import dasksne
from dasksne import job, repulsion
from dasksne.errors import InvalidInputError, ResourceError, StoreError
from dasksne.executor import current_executor
from dasksne.executor.client import INLINE_BYTES, ClientExecutor, _limited
from dasksne.kernels.calibration import Calibration
from dasksne.kernels.tiling import cheapest_tiling
from dasksne.run import Run

N = 200
REFERENCE = {}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("client")]


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit="2GiB"
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


@pytest.fixture
def data(rng):
    return rng.normal(size=(N, 5))


def sne(**options):
    given = {"perplexity": 6.0, "annealing": [20.0], "max_iter": 4, "random_state": 3}
    return dasksne.SNE(**{**given, "block_rows": 32, "shards": 4, **options})


def on_threads(X, **options):
    """What no cluster has a part in, found once."""
    asked = tokenize(X, options)
    if asked not in REFERENCE:
        with dask.config.set(scheduler="threads"):
            REFERENCE[asked] = sne(**options).fit(X)
    return REFERENCE[asked]


# The executor


def test_the_current_client_is_used():
    with current_executor() as executor:
        assert isinstance(executor, ClientExecutor)
        assert executor.n_threads == 2
        assert not executor.shares_memory
        assert executor.memory_found() == 2 * 2**30


def test_workers_are_there_also_where_the_client_forgets_them(client, monkeypatch):
    """As it does when it looks for something else at the same time."""
    monkeypatch.setattr(client, "scheduler_info", lambda **_: {"workers": {}})
    with current_executor() as executor:
        assert executor.n_threads == 2
        executor._require_workers()


def test_results_come_in_the_order_of_the_items():
    with current_executor() as executor:
        numbers = executor.map(int, range(6))
        handles = executor.map(pow, numbers, executor.broadcast(2))
        for handle in handles:
            executor.wait(handle)
        assert [executor.result(handle) for handle in handles] == [0, 1, 4, 9, 16, 25]


def test_an_error_of_a_task_is_raised_where_it_is_waited_for():
    with current_executor() as executor:
        for ask in (executor.wait, executor.result):
            (handle,) = executor.map(float, ["not a number"])
            with pytest.raises(ValueError, match="not a number"):
                ask(handle)


@pytest.mark.parametrize("size", [10, INLINE_BYTES // 8])
def test_a_broadcast_value_arrives_whole(size):
    """Also where it is a tuple of arrays, which scattering would take apart."""
    values = Calibration(*(np.full(size, float(i)) for i in range(len(Calibration._fields))))
    with current_executor() as executor:
        shared = executor.broadcast(values)
        assert isinstance(shared, Calibration if size == 10 else Future)
        (handle,) = executor.map(type, [shared])
        assert executor.result(handle) is Calibration


def test_results_are_reduced_on_a_worker(client):
    with current_executor() as executor:
        whole = executor.reduce(list, executor.map(int, range(4)))
        assert client.who_has([whole])
        assert executor.result(whole) == [0, 1, 2, 3]


def test_what_is_quick_goes_together_where_its_items_are(client):
    with current_executor() as executor:
        numbers = executor.map(np.arange, range(2, 9))
        for number in numbers:
            executor.wait(number)
        before = client.who_has(numbers)
        alone = executor.map_all(len, numbers)
        together = executor.map_all(len, numbers, quick=True)
        assert executor.result(together) == executor.result(alone) == list(range(2, 9))
        assert (len(alone.tasks), len(together.tasks)) == (7, 2)
        assert client.who_has(numbers) == before


def test_work_aside_is_done_in_this_process():
    with current_executor() as executor:
        assert executor.result(executor.aside(os.getpid)) == os.getpid()
        with pytest.raises(ResourceError, match=r"empty found no memory .* allocate 1\.00 EiB"):
            executor.result(executor.aside(np.empty, 2**57))


@pytest.mark.parametrize(("readers", "by_reference"), [(2, False), (20, True)])
def test_the_more_readers_the_sooner_a_value_is_sent_once(readers, by_reference):
    with current_executor() as executor:
        shared = executor.broadcast(np.zeros(INLINE_BYTES // 100), readers)
        assert isinstance(shared, Future) == by_reference


def test_a_broadcast_value_is_on_every_worker(client, monkeypatch):
    """Else tasks that need nothing else would all go to the one that has it."""
    monkeypatch.setattr("dasksne.executor.client.INLINE_BYTES", 100)
    with current_executor() as executor:
        shared = executor.broadcast(np.zeros(1000))
        assert len(client.who_has([shared])[shared.key]) == 2


def test_tasks_have_one_blas_thread():
    """Workers of a batch system are not started with one, as those of a LocalCluster are."""
    with threadpool_limits(limits=2, user_api="blas"):
        assert _limited(blas_threads) == {1}


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_workers_that_do_not_see_the_store_are_counted(data, monkeypatch, tmp_path):
    with current_executor() as executor:
        assert executor.blind_workers(str(tmp_path)) == []
        assert len(executor.blind_workers(str(tmp_path / "nowhere"))) == 2
    monkeypatch.setattr(ClientExecutor, "blind_workers", lambda *_: ["tcp://far:1"])
    for options in ({"p_storage": "zarr"}, {"save": ("Q",)}):
        said = (
            r"1 workers do not see .*, the first of them tcp://far:1, and (p_storage='zarr'|save)"
        )
        with pytest.raises(StoreError, match=said):
            sne(store=tmp_path / "run.zarr", **options).fit(data)
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_workers_do_not_reach(data, bucket):
    """It is of this process alone, as one without credentials on the workers is."""
    store = "s3://bucket/run.zarr"
    with pytest.warns(UserWarning, match=f"2 workers do not see {store}, the first of them tcp://"):
        found = sne(store=store).fit(data)
    assert_same_map(found, on_threads(data))
    run = dasksne.open_run(store)
    np.testing.assert_array_equal(run.embedding, found.embedding_)
    assert not run.run.has("P")
    with pytest.raises(
        StoreError, match=rf"2 workers do not see {store}.* save=\('Q',\) needs them"
    ):
        sne(store=store, overwrite=True, save=("Q",)).fit(data)
    assert not any(".dasksne" in name for name in bucket.store)


def test_a_bucket_that_workers_reach(data, bucket):
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"):
        found = sne(store="s3://bucket/seen.zarr").fit(data)
    assert_same_map(found, on_threads(data))
    assert dasksne.open_run("s3://bucket/seen.zarr").run.has("P")
    assert not any(".dasksne" in name for name in bucket.store)


def test_an_asynchronous_client_is_refused(cluster):
    async def ask():
        async with Client(cluster.scheduler_address, asynchronous=True):
            with pytest.raises(InvalidInputError, match="asynchronous"):
                current_executor()

    asyncio.run(ask())


# The same bits


@pytest.mark.parametrize("p_storage", ["memory", "zarr", "recompute"])
def test_two_processes_give_the_bits_of_threads(data, p_storage):
    expected = on_threads(data, p_storage=p_storage)
    assert_same_map(sne(p_storage=p_storage).fit(data), expected)
    assert_same_map(sne(p_storage=p_storage).fit(da.from_array(data, chunks=(37, 2))), expected)


@pytest.mark.parametrize("rows", [N + 1, 60])
def test_fourier_sums_too(data, rows, monkeypatch):
    """Of the whole map, by this process, and of its blocks, by workers."""
    monkeypatch.setattr(repulsion, "choose_tiling", cheapest_tiling)
    monkeypatch.setattr(repulsion, "FOURIER_ROWS", rows)
    with dask.config.set(scheduler="threads"):
        expected = sne().fit(data)
    assert_same_map(sne().fit(data), expected)


@pytest.mark.parametrize("options", [{"optimizer": "momentum"}, {"metric": "precomputed"}], ids=str)
def test_other_ways_too(data, options):
    X = np.abs(data[:, :1] - data[:, 0]) if "metric" in options else data
    assert_same_map(sne(**options).fit(X), on_threads(X, **options))


@pytest.mark.parametrize("wrap", [np.asarray, scipy.sparse.csr_array])
def test_affinities_of_ones_own(rng, monkeypatch, wrap):
    """With nothing small enough to travel with each task."""
    monkeypatch.setattr("dasksne.executor.client.INLINE_BYTES", 100)
    P = rng.uniform(size=(90, 90)) * (rng.uniform(size=(90, 90)) < 0.1)
    P[np.arange(90), np.arange(90) - 1] = 0.5
    np.fill_diagonal(P, 0.0)
    options = {"metric": "affinities", "perplexity": None}
    assert_same_map(sne(**options).fit(wrap(P)), on_threads(wrap(P), **options))


def test_a_width_for_each_point(rng, data):
    options = {"sigma": rng.uniform(1.0, 2.0, size=len(data)), "perplexity": None}
    assert_same_map(sne(**options).fit(data), on_threads(data, **options))


def test_large_arrays_are_scattered(data, monkeypatch):
    monkeypatch.setattr("dasksne.executor.client.INLINE_BYTES", 100)
    assert_same_map(sne().fit(data), on_threads(data))


def test_a_run_kept_by_a_cluster_goes_on_anywhere(data, tmp_path):
    store = tmp_path / "run.zarr"

    def interrupt(event):
        if (event.stage, event.iteration) == (1, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sne(store=store, save=("Q",), callbacks=interrupt).fit(data)
    with dask.config.set(scheduler="sync"):
        found = dasksne.resume(store)
    assert_same_map(found, on_threads(data))
    assert Run.locate(store).state["status"] == "finished"


def test_a_dask_array_is_not_gathered(client, data, tmp_path):
    """Its blocks are computed on the workers, each once."""

    def note(block, block_info=None):
        start = block_info[0]["array-location"][0][0]
        (tmp_path / f"{start}-{os.getpid()}-{uuid.uuid4()}").touch()
        return block

    X = da.from_array(data, chunks=(50, 5)).map_blocks(note, dtype=float, meta=np.empty((0, 0)))
    found = sne().fit(X)
    notes = [path.name.split("-") for path in tmp_path.iterdir()]
    assert sorted(int(start) for start, *_ in notes) == [0, 50, 100, 150]
    assert {int(pid) for _, pid, *_ in notes} <= set(client.run(os.getpid).values())
    assert_same_map(found, on_threads(data))


@pytest.mark.parametrize("kept", [False, True])
def test_new_points(client, rng, data, tmp_path, kept, monkeypatch):
    new = rng.normal(size=(70, 5))
    expected = on_threads(data).transform(new)
    monkeypatch.setattr("dasksne.executor.client.INLINE_BYTES", 1000)
    model = sne(store=tmp_path / "run.zarr" if kept else None).fit(data)
    np.testing.assert_array_equal(model.transform(new), expected)
    lazy = model.transform(da.from_array(new, chunks=(20, 5)))
    np.testing.assert_array_equal(client.persist(lazy).compute(), expected)
    monkeypatch.setattr(ClientExecutor, "blind_workers", lambda *_: ["tcp://far:1"])
    if kept:
        with pytest.raises(StoreError, match="do not see"):
            model.transform(new)


@pytest.mark.parametrize("tail_mass", [0.0, 1e-2])
def test_a_run_of_points_that_are_too_many_to_be_annealed(data, tmp_path, monkeypatch, tail_mass):
    monkeypatch.setattr(job, "LARGEST_ANNEALED", 100)
    given = {"annealing": "auto", "perplexity": 5.0, "tail_mass": tail_mass}
    found = sne(store=tmp_path / "run.zarr", **given).fit(da.from_array(data, chunks=(70, 5)))
    assert len(np.unique(found.history_["stage"])) == (2 if tail_mass == 0.0 else 1)
    assert found.history_["evaluations"][0] == 4  # of two starts
    expected = on_threads(data, **given)
    assert_same_map(found, expected)
    assert found.report_["tails"] == expected.report_["tails"]
    assert_same_map(sne(**given).fit(data), found)


# Failures


@pytest.mark.cluster
@pytest.mark.parametrize("p_storage", ["memory", "zarr", "recompute"])
def test_a_worker_that_dies_changes_no_bit(client, data, p_storage):
    expected = on_threads(data, p_storage=p_storage)
    killed = []

    def kill(event):
        if (event.stage, event.iteration) == (1, 2):
            pids = client.run(os.getpid)
            address = min(pids)
            os.kill(pids[address], signal.SIGKILL)
            killed.append(address)

    assert_same_map(sne(p_storage=p_storage, callbacks=kill).fit(data), expected)
    assert len(killed) == 1


def test_too_little_memory_on_the_workers(data, monkeypatch):
    monkeypatch.setattr(ClientExecutor, "memory_found", lambda _: 10**6)
    with pytest.raises(ResourceError, match=r"900\.0 kB may be used"):
        sne().fit(data)

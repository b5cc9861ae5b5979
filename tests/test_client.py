"""The executor of a cluster whose workers go and come, in this process."""

import sys
import threading
import time
from types import SimpleNamespace

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, KilledWorker, worker_client

import dasksne
from dasksne.errors import ClusterError, ResourceError, SchedulerLostError
from dasksne.executor import client as module
from dasksne.executor import current_executor, reconnect, reconnected
from dasksne.executor.groups import Holders
from dasksne.executor.tasks import described, new_key
from dasksne.run import Run
from dasksne.staging import store_rows

pytestmark = pytest.mark.filterwarnings("ignore:no worker is left")


@pytest.fixture
def client(monkeypatch):
    """A client of one worker, which waits for others for a moment only."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    options = {"processes": False, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        dask.config.set({"dasksne.workers-timeout": "0.1s"}),
        Client(n_workers=1, **options) as client,
    ):
        yield client


@pytest.fixture
def executor(client):  # noqa: ARG001 - it is the current one
    with current_executor() as executor:
        yield executor


def hire(client, workers):
    """Have so many workers, of which the client knows."""
    client.cluster.scale(workers)
    while len(client.nthreads()) != workers:
        time.sleep(0.01)


def test_a_fit_in_a_task_leaves_its_thread_to_the_tasks_that_it_starts(client, rng):
    """Of the only worker."""
    X = rng.normal(size=(60, 3))
    model = dasksne.SNE(perplexity=5, annealing=None, max_iter=2, random_state=0)
    fits = client.map(lambda _: model.fit_transform(X), [1, 2])
    first, second = client.gather(fits)
    np.testing.assert_array_equal(first, second)


def test_a_fit_in_a_task_that_has_left_its_thread(client, rng):
    X = rng.normal(size=(60, 3))

    def fit(_):
        with worker_client():
            return dasksne.SNE(perplexity=5, annealing=None, max_iter=2).fit_transform(X)

    assert client.submit(fit, 1).result().shape == (60, 2)


@pytest.fixture
def lost(client, executor):
    """A result that was there before its worker, the only one, was lost."""
    (handle,) = executor.map(np.zeros, [1000])
    executor.wait(handle)
    hire(client, 0)
    while handle.status != "lost":
        time.sleep(0.01)
    return handle


# Workers that are still to come


def test_a_cluster_whose_workers_are_still_to_come_is_waited_for(client):
    """Else a plan would be made for memory without an end, and nobody be asked what he sees."""
    hire(client, 0)
    arrival = threading.Timer(0.2, client.cluster.scale, [1])
    arrival.start()
    said = "no worker has come yet; waiting up to 1 minute"
    with dask.config.set({"dasksne.workers-timeout": "1 minute"}):
        with pytest.warns(UserWarning, match=said):
            executor = current_executor()
        arrival.join()
    assert executor.memory_found() < sys.maxsize // 2
    assert len(executor.blind_workers("/nowhere")) == 1


def test_a_cluster_without_a_worker_is_an_error(client):
    hire(client, 0)
    with (
        pytest.warns(UserWarning, match="no worker has come yet"),
        pytest.raises(
            ClusterError, match=r"no worker came within 0\.1s; the time is dasksne\.work"
        ),
    ):
        current_executor()


# Items that go together


def test_items_are_looked_for_again_where_workers_have_changed(client, executor):
    """Else one worker would ask another for what it has itself."""
    hire(client, 2)
    executor.newcomers(now=True)
    items = executor.map(np.ones, range(1, 9))
    for item in items:
        executor.wait(item)
    tasks = []
    for workers in (2, 1):
        hire(client, workers)
        executor.newcomers(now=True)
        for item in items:
            executor.wait(item)
        together = executor.map_all(np.sum, items, quick=True)
        assert executor.result(together) == list(range(1, 9))
        tasks.append(len(together.tasks))
    assert tasks == [2, 1]


def test_what_was_lost_goes_alone(client, executor):
    """Else one worker would have to hold all that another one had."""
    items = executor.map(np.ones, range(1, 9))
    for item in items:
        executor.wait(item)
    holders = Holders(dict.fromkeys(client.nthreads(), 1))
    assert holders.groups(client, items) == [list(range(8))]
    hire(client, 0)
    while any(item.status != "lost" for item in items):
        time.sleep(0.01)
    holders.renew({})
    assert holders.groups(client, items) == [[k] for k in range(8)]


def test_a_group_has_the_name_of_its_first_item(executor):
    items = executor.map(lambda rows: rows, [slice(0, 3), slice(3, 5)])
    for item in items:
        executor.wait(item)
    (task,) = executor.map_all(str, items, quick=True).tasks
    assert described(task.key) == "str of rows 0 to 3 and 1 more"


# Which one


def test_a_client_may_be_the_configured_scheduler(client):
    """As Dask's own collections take it, also where it is not the current one."""
    address = client.scheduler.address
    with (
        Client(address, set_as_default=False) as another,
        client.as_current(),
        dask.config.set(scheduler=another),
        current_executor() as executor,
    ):
        (handle,) = executor.map(int, [1])
        assert handle.client is another
        assert executor.result(handle) == 1


def test_a_configured_client_that_was_lost_is_not_asked_again(client, monkeypatch):
    with Client(client.scheduler.address, set_as_default=False) as other:
        monkeypatch.setattr(reconnect, "_client_there", lambda _: other)
        lost = SchedulerLostError(client, client.scheduler.address)
        with dask.config.set(scheduler=client), reconnected(lost):
            assert current_executor()._client is other


# Collections


@pytest.mark.parametrize("by_workers", [True, False])
def test_storing_is_not_waited_for_ever_where_no_worker_is_left(
    client, executor, tmp_path, by_workers
):
    run = Run.locate(tmp_path / "run.zarr")
    run.create(overwrite=False)
    hire(client, 0)
    X = da.zeros((100, 2), chunks=50)
    with (
        pytest.warns(UserWarning, match="no worker is left"),
        pytest.raises(ClusterError, match=r"no worker came back within 0\.1s"),
    ):
        store_rows(executor, X, run, "euclidean", by_workers=by_workers)


def test_a_scheduler_that_is_lost_while_x_is_stored_is_named(client, executor):
    """Its client knows of it by cancelling what it waits for."""
    X = da.zeros(2).map_blocks(lambda block: time.sleep(0.2) or block, meta=np.empty(0))
    forget = threading.Timer(0.1, client._handle_restart)
    forget.start()
    with pytest.raises(SchedulerLostError, match="connection to the Dask scheduler"):
        executor.compute(X)
    forget.join()


def test_a_block_that_kills_its_workers_is_named(executor):
    """Of a collection, too."""
    blocks = da.zeros((4, 2), chunks=2, name="zeros-4b5cc2f5f7bd5ad0b1bb7ee8b0b1e3f7")
    worker = SimpleNamespace(address="tcp://a:1", memory_limit=2**30, nthreads=4)
    named = {
        blocks.__dask_keys__()[1][0]: r"zeros of block \(1, 0\) was lost with its worker 4 times",
        new_key("attract", "rows 3 to 5"): "^attract of rows 3 to 5 was lost",
        new_key("broadcast"): "^broadcast was lost",
    }
    for key, said in named.items():
        with pytest.raises(ResourceError, match=said), executor._named_losses():
            raise KilledWorker(key, worker, 3)


# The end


@pytest.mark.parametrize("way", ["map", "compute"])
def test_nothing_is_executing_after_an_error(client, tmp_path, way):
    """Else it would write to a place that was removed."""

    def write(i):
        """Fail, if this is the first task, as soon as there is a second one."""
        (tmp_path / f"{i} began").touch()
        try:
            (tmp_path / "first").mkdir()
        except FileExistsError:
            time.sleep(0.3)
            (tmp_path / f"{i} ended").touch()
        else:
            while len(list(tmp_path.glob("* began"))) == 1:
                time.sleep(0.01)
            raise ZeroDivisionError

    def write_block(block, block_info):
        write(block_info[0]["chunk-location"][0])
        return block

    def work(executor):
        if way == "map":
            for handle in executor.map(write, range(20)):
                executor.wait(handle)
        else:
            executor.compute(da.zeros(20, chunks=1).map_blocks(write_block, meta=np.empty(0)))

    hire(client, 2)
    with pytest.raises(ZeroDivisionError), current_executor() as executor:
        work(executor)
    began, ended = (set(tmp_path.glob(f"* {what}")) for what in ("began", "ended"))
    assert 1 < len(began) < 20
    assert len(ended) == len(began) - 1
    time.sleep(0.4)
    assert set(tmp_path.glob("* began")) == began


@pytest.mark.usefixtures("client")
def test_an_end_with_an_error_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STOP_SECONDS", 0.2)

    def write(path):
        (path / "began").touch()
        time.sleep(2)
        (path / "ended").touch()

    def work(executor):
        handles.extend(executor.map(write, [tmp_path]))
        while not (tmp_path / "began").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    handles = []
    with pytest.raises(KeyboardInterrupt), current_executor() as executor:
        work(executor)
    assert handles[0].cancelled()
    assert not (tmp_path / "ended").exists()


def test_a_task_that_finds_too_little_memory_is_named(executor):
    (handle,) = executor.map(lambda rows: np.empty(2**57 + rows.start), [slice(3, 7)])
    with pytest.raises(ResourceError, match=r"of rows 3 to 7 found no memory .*allocate 1\.00 EiB"):
        executor.wait(handle)


# Results that are lost after they were there


@pytest.mark.parametrize("ask", ["wait", "result"])
def test_a_result_that_is_lost_for_good_is_not_waited_for_ever(executor, lost, ask):
    with (
        pytest.warns(UserWarning, match=r"no worker is left; waiting up to 0\.1s for new ones"),
        pytest.raises(ClusterError, match=r"no worker came back within 0\.1s"),
    ):
        getattr(executor, ask)(lost)


def test_a_result_that_is_lost_on_the_way_is_not_waited_for_ever(executor, lost, monkeypatch):
    """All looks well when it is asked for."""
    monkeypatch.setattr(executor, "wait", lambda _: None)
    with pytest.raises(ClusterError, match=r"no worker came back within 0\.1s"):
        executor.result(lost)


def test_what_is_waited_for_is_made_again_and_stays_where_it_is(
    client, executor, lost, monkeypatch
):
    def refuse(*_args, **_options):
        pytest.fail("it was brought here")

    monkeypatch.setattr(client, "_gather", refuse)
    client.cluster.scale(1)
    with dask.config.set({"dasksne.workers-timeout": "1 minute"}):
        executor.wait(lost)
    assert client.who_has([lost])[lost.key]


@pytest.mark.parametrize("ask", ["wait", "result"])
def test_patience_begins_anew_with_each_loss_of_all_workers(
    client, executor, lost, monkeypatch, ask
):
    """Nobody looked while there were workers: what was asked for came between two looks."""
    with pytest.raises(ClusterError):
        executor.wait(lost)
    monkeypatch.setattr(module, "POLL_SECONDS", 60)
    client.cluster.scale(1)
    getattr(executor, ask)(lost)
    hire(client, 0)
    with pytest.warns(UserWarning, match="no worker is left"):
        executor._require_workers()

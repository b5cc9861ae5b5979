"""The executor of a cluster whose workers go and come, in this process."""

import sys
import threading
import time

import dask
import numpy as np
import pytest
from distributed import Client

from dasksne.errors import ClusterError
from dasksne.executor import client as module
from dasksne.executor import current_executor

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

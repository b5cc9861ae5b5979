"""A network that is cut between two hosts: this one, and a namespace of its own."""

import os
import shutil
import subprocess
import time
import uuid

import dask
import numpy as np
import pytest
from processes import cluster_of
from templates import PATH, wait_until

import dasksne
from dasksne.errors import ClusterError

NEAR, FAR = "198.51.100.1", "198.51.100.2"
TIMEOUT = "12s"
"""Of a connection that says nothing; Dask takes none much shorter."""
SECONDS = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": TIMEOUT}


def may_make_hosts():
    if os.geteuid() != 0 or shutil.which("ip", path=PATH) is None:
        return False
    name = f"probe-{uuid.uuid4().hex[:8]}"
    made = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True)
    return made.returncode == 0 and ip("netns", "del", name) is None


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        not may_make_hosts(), reason="needs root and ip netns: apt-get install iproute2"
    ),
]


@pytest.fixture
def far():
    """Have another host, and a cable to it, which is down when the other's end is."""
    name = uuid.uuid4().hex[:8]
    here, there = f"n{name}", f"f{name}"
    ip("netns", "add", name)
    try:
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        ip("addr", "add", f"{NEAR}/30", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", name, "addr", "add", f"{FAR}/30", "dev", there)
        ip("-n", name, "link", "set", there, "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        ip("netns", "del", name)


@pytest.fixture
def data(rng):
    return rng.normal(size=(200, 5))


def sne(**options):
    given = {"perplexity": 8.0, "annealing": [20.0], "max_iter": 10, "random_state": 3}
    return dasksne.SNE(**given, block_rows=32, shards=4, **options)


def on_threads(data):
    with dask.config.set(scheduler="threads"):
        return sne().fit(data)


def cut_from(far):
    """A callback that cuts the cable in the second stage, and notes when."""
    times = []

    def cut(event):
        if (event.stage, event.iteration) == (1, 3):
            ip("-n", far, "link", "set", f"f{far}", "down")
            times.append(time.monotonic())

    return cut, times


@pytest.mark.parametrize("p_storage", ["memory", "zarr"])
def test_a_worker_is_cut_off(far, tmp_path, data, p_storage):
    """It is given up after the timeout, ends by itself, and the others do its work."""
    cut, times = cut_from(far)
    with (
        dask.config.set({"distributed.comm.timeouts.tcp": TIMEOUT}),
        cluster_of(tmp_path, workers=1, host=NEAR, env=SECONDS) as cluster,
        cluster.client() as client,
    ):
        cut_off = cluster.start_worker(inside=far)
        client.wait_for_workers(2, timeout=60)
        assert any(FAR in address for address in client.nthreads())
        found = sne(store=tmp_path / "run.zarr", p_storage=p_storage, callbacks=cut).fit(data)
        assert time.monotonic() - times[0] > 5.0
        assert not any(FAR in address for address in client.nthreads())
        wait_until(lambda: cut_off.poll() is not None, "the end of the worker that is cut off")
    expected = on_threads(data)
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)
    assert found.kl_divergence_ == expected.kl_divergence_


def test_the_driver_is_cut_off(far, tmp_path, data):
    """It stops with a checkpoint, from which it goes on elsewhere."""
    cut, times = cut_from(far)
    store = tmp_path / "run.zarr"
    with (
        dask.config.set({"distributed.comm.timeouts.tcp": TIMEOUT}),
        cluster_of(tmp_path, workers=0, host=FAR, env=SECONDS, inside=far) as cluster,
        cluster.client(timeout=3) as client,
    ):
        cluster.start_worker(inside=far)
        client.wait_for_workers(1, timeout=60)
        with pytest.raises(ClusterError, match=rf"{FAR}:\d+ is lost") as caught:
            sne(store=store, callbacks=cut).fit(data)
    assert times
    assert caught.value.__notes__ == [f"the run is kept; go on with: dasksne resume {store}"]
    with dask.config.set(scheduler="threads"):
        found = dasksne.resume(store)
    np.testing.assert_array_equal(found.embedding_, on_threads(data).embedding_)

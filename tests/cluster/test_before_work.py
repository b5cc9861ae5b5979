"""What is found on a cluster before work starts, and of what joins it later; its dashboard."""

import os

import dask
import numpy as np
import pytest
from distributed import Client
from processes import cluster_of

import dasksne
from dasksne.errors import ClusterError
from dasksne.run import Run

OPTIONS = {"perplexity": 6.0, "annealing": None, "max_iter": 5, "random_state": 1}


@pytest.fixture
def data(rng):
    return rng.normal(size=(90, 4))


def worker_with_package(cluster, folder, name, version):
    """A worker whose metadata say that it has another version of a package."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    cluster.start_worker(env={"PYTHONPATH": path})


def test_a_worker_of_another_version_is_named(tmp_path, data):
    with cluster_of(tmp_path, workers=1) as cluster:
        worker_with_package(cluster, tmp_path / "other", "dasksne", "99.0")
        with cluster.client() as client:
            client.wait_for_workers(2, timeout=60)
            said = (
                "the workers are not set up as this process is: dasksne is 99.0, here "
                f"{dasksne.__version__} on 1 workers, the first of them tcp://"
            )
            with pytest.raises(ClusterError, match=said):
                dasksne.SNE(**OPTIONS, store=tmp_path / "run.zarr").fit(data)
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.cluster
def test_a_worker_of_another_version_that_comes_later_is_named(tmp_path, data, monkeypatch):
    """The run stops with a checkpoint; without that worker it goes on to the same bits."""
    monkeypatch.setattr("dasksne.executor.client.LOOK_SECONDS", 0.0)
    store = tmp_path / "run.zarr"
    with cluster_of(tmp_path, workers=1) as cluster, cluster.client() as client:
        client.wait_for_workers(1, timeout=60)

        def join(event):
            if event.iteration == 2:
                worker_with_package(cluster, tmp_path / "other", "dasksne", "99.0")
                client.wait_for_workers(2, timeout=60)

        said = "dasksne is 99.0, here .* on 1 workers, the first of them tcp://"
        with pytest.raises(ClusterError, match=said) as caught:
            dasksne.SNE(**OPTIONS, store=store, callbacks=join).fit(data)
    assert caught.value.__notes__ == [f"the run is kept; go on with: dasksne resume {store}"]
    with dask.config.set(scheduler="threads"):
        expected = dasksne.SNE(**OPTIONS).fit_transform(data)
        np.testing.assert_array_equal(dasksne.resume(store).embedding_, expected)


OTHER_BITS = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
"""A worker whose compiler does not use what its CPU has."""


@pytest.mark.cluster
def test_a_worker_that_comes_later_and_computes_other_bits_is_told_of(tmp_path, data, monkeypatch):
    monkeypatch.setattr("dasksne.executor.client.LOOK_SECONDS", 0.0)
    with cluster_of(tmp_path, workers=1) as cluster, cluster.client() as client:
        client.wait_for_workers(1, timeout=60)

        def join(event):
            if event.iteration == 2:
                cluster.start_worker(env=OTHER_BITS)
                client.wait_for_workers(2, timeout=60)

        with pytest.warns(UserWarning, match="1 workers compute other last bits") as caught:
            dasksne.SNE(**OPTIONS, callbacks=join).fit(data)
    assert len(caught) == 1


@pytest.mark.cluster
def test_workers_that_compute_other_bits_are_told_of(tmp_path, data):
    with dask.config.set(scheduler="threads"):
        expected = dasksne.SNE(**OPTIONS).fit_transform(data)
    with cluster_of(tmp_path, workers=0) as cluster:
        cluster.start_worker(env=OTHER_BITS)
        with cluster.client() as client:
            client.wait_for_workers(1, timeout=60)
            with pytest.warns(UserWarning, match="1 workers compute other last bits"):
                found = dasksne.SNE(**OPTIONS).fit_transform(data)
    assert not np.array_equal(found, expected)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_run_that_began_on_another_machine_is_told_of(tmp_path, data):
    store = tmp_path / "run.zarr"

    def stop(_):
        raise KeyboardInterrupt

    with dask.config.set(scheduler="sync"):
        with pytest.raises(KeyboardInterrupt):
            dasksne.SNE(**OPTIONS, store=store, callbacks=stop).fit(data)
        run = Run.locate(store)
        assert len(run.state["kernels"]) == 64
        run.update(kernels="another")
        with pytest.warns(UserWarning, match="began on a machine with other library versions"):
            dasksne.resume(store)


def test_the_dashboard_is_told_what_runs(data):
    with (
        Client(
            processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0"
        ) as client,
        dask.config.set({"dasksne.workers-timeout": "1s"}),
    ):
        dasksne.SNE(**OPTIONS).fit(data)
        spans = client.run_on_scheduler(
            lambda dask_scheduler: [
                span.name for span in dask_scheduler.extensions["spans"].spans.values()
            ]
        )
        names = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.task_prefixes))
        events = client.get_events("dasksne")
    for stage in ("affinities", "joint probabilities", "iterations of stage 1"):
        assert spans.count(("dasksne", stage)) == 1
    assert {"calibrate_block", "hold_shard", "attract"} <= set(names)
    assert events[0][1]["iteration"] == 1
    assert events[0][1]["cost"] > 0

"""The examples run, on small settings."""

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import dask
import numpy as np
import pytest
import zarr

import dasksne
from dasksne.arrays import squared_distances

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name):
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path):
    assert len(path.read_text().splitlines()) < 60


def test_digits_makes_a_map_and_a_picture(tmp_path, capsys):
    load("digits").main(tmp_path, max_iter=5, annealing=None)
    assert dasksne.open_run(tmp_path / "digits.zarr").embedding.shape == (1797, 2)
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
    assert "trustworthiness 0.9" in capsys.readouterr().out


def test_new_points_come_beside_their_kind(tmp_path, capsys):
    load("new_points").main(tmp_path, max_iter=20, annealing=None)
    (share,) = re.findall(r"(\S+)% of 360 are beside their kind", capsys.readouterr().out)
    assert float(share) > 90.0


@pytest.mark.slow
def test_large_array_keeps_p_on_disk_within_its_memory(tmp_path, capsys):
    with dask.config.set(num_workers=2):
        load("large_array").main(1_600, 7_500, tmp_path, max_iter=5)
    run = dasksne.open_run(tmp_path / "large.zarr")
    assert run.summary["plan"]["p_storage"] == "zarr"
    assert run.summary["plan"]["memory_bytes"] <= run.summary["plan"]["memory_limit"] < run.X.nbytes
    # The five clusters are apart in the map: a point's nearest neighbour is of its own.
    y = run.embedding
    between = squared_distances(y).compute()
    np.fill_diagonal(between, np.inf)
    assert np.mean(between.argmin(axis=1) % 5 == np.arange(len(y)) % 5) > 0.99
    assert "X takes" in capsys.readouterr().out


@pytest.mark.cluster
def test_a_cluster_job_runs_and_goes_on_by_address_and_by_file(tmp_path, rng):
    from distributed import LocalCluster  # noqa: PLC0415 - by this test alone

    zarr.create_group(f"{tmp_path}/in.zarr").create_array("X", data=rng.normal(size=(120, 5)))
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        (tmp_path / "scheduler.json").write_text(f'{{"address": "{address}"}}')
        for where in (address, "scheduler.json"):
            arguments = [EXAMPLES / "cluster_job.py", where, "in.zarr", "out.zarr"]
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=tmp_path,
                check=True,
                capture_output=True,
                text=True,
            )
            assert "C = " in done.stdout
    assert dasksne.open_run(tmp_path / "out.zarr").status == "finished"

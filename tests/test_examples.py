"""The examples run, on small settings."""

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import anndata
import dask
import numpy as np
import pandas as pd
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


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path):
    assert len(path.read_text().splitlines()) < 60


def test_the_gallery_has_every_example_and_small_pictures():
    gallery = (EXAMPLES / "README.md").read_text()
    targets = re.findall(r"\]\(([^)]+)\)", gallery)
    assert {path.name for path in EXAMPLES.glob("*.py")} <= set(targets)
    for target in targets:
        assert (EXAMPLES / target).exists(), target
        assert not target.endswith(".png") or (EXAMPLES / target).stat().st_size < 100_000


def test_digits_makes_a_map_and_a_picture(tmp_path, capsys):
    load("digits").main(tmp_path, max_iter=5, annealing=None)
    assert dasksne.open_run(tmp_path / "digits.zarr").embedding.shape == (1797, 2)
    assert is_picture(tmp_path / "digits.png")
    assert "trustworthiness 0.9" in capsys.readouterr().out


def test_maps_are_judged_beside_each_other(tmp_path, capsys):
    load("judging").main(tmp_path, 150, perplexity=10, annealing=None, max_iter=20)
    found = re.findall(
        r"^ *(\S+): trustworthiness (\S+),.* area (\S+)$", capsys.readouterr().out, re.MULTILINE
    )
    assert [name for name, *_ in found] == ["SNE", "t-SNE", "PCA"]
    trust = {name: float(value) for name, value, _ in found}
    assert 1.0 > trust["t-SNE"] > trust["PCA"] > 0.7
    assert trust["SNE"] > trust["PCA"]
    assert is_picture(tmp_path / "judging.png")


def test_a_map_is_drawn_in_every_way(tmp_path):
    load("pictures").main(tmp_path, max_iter=3, annealing=None)
    for name in ("labels", "cost", "feature", "history"):
        assert is_picture(tmp_path / f"{name}.png")
    assert (tmp_path / "map.html").stat().st_size > 1e6


def test_a_run_is_watched_and_stopped(tmp_path, capsys):
    load("watching").main(tmp_path, steps=2, share=0.9, annealing=None)
    out = capsys.readouterr().out
    assert len(re.findall(r"^ *\d+ cost \d+", out, re.MULTILINE)) == 3
    assert "stopped by a callback" in out
    assert is_picture(tmp_path / "history.png")


def test_tables_come_in_and_go_out(tmp_path, capsys):
    load("tables").main(tmp_path, max_iter=5, annealing=None)
    assert "columns sne0, sne1; obsm X_sne" in capsys.readouterr().out
    written = pd.read_csv(tmp_path / "wines-map.csv")
    found = anndata.read_h5ad(tmp_path / "wines.h5ad")
    np.testing.assert_allclose(written[["sne0", "sne1"]], found.obsm["X_sne"], rtol=1e-12)
    assert set(found.obs["kind"]) == {"class_0", "class_1", "class_2"}


def test_cities_and_pale_digits_are_mapped_by_distances_of_their_own(tmp_path):
    load("distances").main(tmp_path, 120, annealing=None, max_iter=5)
    assert is_picture(tmp_path / "cities.png")
    assert is_picture(tmp_path / "cosine.png")


def test_options_are_compared(tmp_path, capsys):
    load("options").main(tmp_path, 140, max_iter=3)
    out = capsys.readouterr().out
    assert len(re.findall(r"^perplexity \d+: kept", out, re.MULTILINE)) == 4
    assert len(re.findall(r"ms an evaluation, ", out)) == 4
    assert "of P kept; error of a gradient row" in out
    assert is_picture(tmp_path / "options.png")


def test_new_points_come_beside_their_kind(tmp_path, capsys):
    load("new_points").main(tmp_path, max_iter=20, annealing=None)
    (share,) = re.findall(r"(\S+)% of 360 are beside their kind", capsys.readouterr().out)
    assert float(share) > 90.0


@pytest.mark.cluster  # a minute of distances between thousands of features
def test_large_array_keeps_p_on_disk_within_its_memory(tmp_path, capsys):
    with dask.config.set(num_workers=2):
        load("large_array").main(1_600, 8_000, tmp_path, max_iter=5)
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

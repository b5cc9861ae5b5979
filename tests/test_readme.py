"""Every command and example of the README runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import dasksne

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
URL = "https://github.com/dasksne/dasksne"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SETUPS = [text for kind, text in BLOCKS if text.startswith("git clone")]
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
(CLUSTER,) = (text for text in PYTHON if "Client" in text)
SHELL = [text for kind, text in BLOCKS if kind == "sh" and text not in SETUPS]


def test_all_code_is_known_to_these_tests():
    assert len(BLOCKS) == len(SETUPS) + len(PYTHON) + len(SHELL)
    assert (len(SETUPS), len(PYTHON), len(SHELL)) == (2, 7, 3)


def test_what_it_points_to_is_there():
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert "examples/digits.png" in targets
    for target in targets:
        assert (ROOT / target).exists(), target


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """Stand in a folder with features.npy and new.npy, with this environment's programs first."""
    np.save(tmp_path / "features.npy", rng.normal(size=(150, 6)))
    np.save(tmp_path / "new.npy", rng.normal(size=(20, 6)))
    monkeypatch.setenv(
        "PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_python(text):
    Path("example.py").write_text(text)
    return subprocess.check_output([sys.executable, "example.py"], text=True)


def run_shell(text):
    return subprocess.check_output(["bash", "-euc", text], text=True)


@pytest.mark.slow
def test_python_examples(folder):
    iris, literal, annotated, cluster, new, reading, judging = PYTHON
    assert cluster == CLUSTER
    cost, iterations, *_ = run_python(iris).split()
    assert 12.7 < float(cost) < 12.8
    assert int(iterations) > 0
    assert (folder / "iris.zarr").is_dir()
    lowest, gradient = run_python(literal).split()
    assert float(lowest) > 0.0
    assert float(gradient) < 0.1
    assert run_python(annotated) == "(150, 2)\n"
    assert float(run_python(new)) == 0.0
    row_sum, again = run_python(reading).split()
    assert float(row_sum) == 1.0
    assert float(again) == float(cost)
    trusted, continuous, *_, area, worst = run_python(judging).split()
    assert 0.9 < min(float(trusted), float(continuous)) < 1.0
    assert 0.5 < float(area) < 1.0
    assert 0 <= int(worst) < 150


@pytest.mark.cluster
def test_the_python_example_on_a_cluster(folder):
    run_python(CLUSTER)
    assert (folder / "cluster.zarr").is_dir()


@pytest.mark.slow
def test_shell_examples(folder):
    printed = run_shell(SHELL[0])
    assert "150 points of 6 features" in printed
    for name in ("map.svg", "map.html", "history.png"):
        assert (folder / name).exists()
    assert (folder / "map.csv").read_text().startswith("sne0,sne1\n")
    assert len((folder / "new.csv").read_text().splitlines()) == 1 + 20


@pytest.mark.usefixtures("folder")
def test_files_of_other_kinds(rng):
    x = rng.normal(size=(150, 3))
    obs = pd.DataFrame({"type": ["B", "T", "T"] * 50}, index=[f"cell{k}" for k in range(150)])
    obs.assign(CD3=x[:, 0], CD8=x[:, 1], CD19=x[:, 2], batch="a").to_csv("cells.csv")
    anndata.AnnData(obs=obs, obsm={"X_pca": x}).write_h5ad("cells.h5ad")
    run_shell(SHELL[2])
    found = anndata.read_h5ad("cells.h5ad")
    opened = dasksne.open_run("genes.zarr")
    np.testing.assert_array_equal(found.obsm["X_sne"], opened.embedding)
    assert opened.labels.tolist() == obs["type"].tolist()
    # The same rows, from the table's columns.
    np.testing.assert_array_equal(dasksne.open_run("proteins.zarr").embedding, opened.embedding)


@pytest.mark.cluster
def test_shell_examples_on_a_cluster(folder):
    from distributed import LocalCluster  # noqa: PLC0415 - by this test alone

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        (folder / "scheduler.json").write_text(f'{{"address": "{address}"}}')
        assert "tcp://scheduler:8786" in SHELL[1]
        printed = run_shell(SHELL[1].replace("tcp://scheduler:8786", address))
    assert printed.count("finished") == 2


@pytest.fixture
def checkout(tmp_path):
    """Make a repository of the files as they are now."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.check_output(listed, cwd=ROOT, text=True).splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not in a git checkout")
    copy = tmp_path / "checkout"
    for name in names:
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for arguments in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "copy"]):
        subprocess.run(["git", *arguments], cwd=copy, check=True)
    return copy


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(SETUPS[0], marks=pytest.mark.cluster, id="map"),
        pytest.param(SETUPS[1], marks=pytest.mark.cluster, id="tests"),  # as .ci/run does
    ],
)
def test_the_two_commands(tmp_path, checkout, monkeypatch, command):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    # As for a newcomer: no environment that is active, no options for pytest from the one here; and
    # of the tests a few, this one not among them.
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.setenv("PYTEST_ADDOPTS", "tests/test_import.py")
    assert URL in command
    run_shell(command.replace(URL, str(checkout)).replace("cd dasksne", "cd checkout"))
    if "embed" in command:
        assert (empty / "checkout" / "digits.png").read_bytes().startswith(b"\x89PNG")

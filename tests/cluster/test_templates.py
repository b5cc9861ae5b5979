"""What holds for every template."""

import os
import re
import subprocess
import threading
from importlib.util import module_from_spec, spec_from_file_location

import dask
import pytest
from distributed import LocalCluster, get_client
from templates import CLUSTER, PATH

PAGES = sorted(CLUSTER.glob("*/README.md"))
FILES = sorted(path for path in CLUSTER.rglob("*") if path.is_file() and path.suffix != ".pyc")


def test_there_are_four():
    assert [page.parent.name for page in PAGES] == ["kubernetes", "local", "slurm", "ssh"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_page_is_one_page_and_what_it_points_to_is_there(page):
    text = page.read_text()
    assert len(text.splitlines()) <= 60
    named = re.findall(r"cluster/[\w./]+\.(?:sh|py|yaml)|cluster/Dockerfile", text)
    linked = re.findall(r"\]\(([^):]+)\)", text)
    assert named
    assert linked
    for path in [CLUSTER.parent / name for name in named] + [page.parent / name for name in linked]:
        assert path.exists(), path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CLUSTER)))
def test_a_file_starts_no_retired_command_and_runs_if_it_is_a_script(path):
    assert not re.search(r"dask-(scheduler|worker|ssh)\b", path.read_text())
    assert os.access(path, os.X_OK) == (path.suffix == ".sh")


PREEMPTION = {
    "distributed.scheduler.allowed-failures": 10,
    "distributed.scheduler.worker-ttl": "5 minutes",
    "distributed.comm.retry.count": 3,
}


@pytest.mark.parametrize("folder", ["kubernetes", "slurm"])
def test_what_matters_where_workers_are_preempted_is_set_and_told_of(folder):
    text = (CLUSTER / folder / "README.md").read_text()
    told = dict(re.findall(r"^\| `([\w.-]+)` \| ([^|]+) \|", text, re.MULTILINE))
    assert told == {name: str(value) for name, value in PREEMPTION.items()}
    files = [path for path in (CLUSTER / folder).iterdir() if path.suffix in {".sh", ".yaml"}]
    given = {
        f"DASK_{name}": value
        for path in files
        for name, value in re.findall(
            r"DASK_(\w+)(?:, value: \"|=\"\$\{DASK_\w+:-)(\w+)", path.read_text()
        )
    }
    configured = dask.config.collect_env(given)
    for name, value in PREEMPTION.items():
        default = dask.config.get(name)  # a KeyError, were there no such setting
        assert dask.config.get(name, default, config=configured) == value


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Return what puts a shell script in the place of a program, for all processes."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{PATH}")

    def put(name, script):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return put


@pytest.mark.parametrize("cpus", ["8", None])
def test_a_slurm_step_has_the_cpus_of_its_job(tmp_path, stand_in, monkeypatch, cpus):
    stand_in("srun", f'printf "%s\\n" "$@" >{tmp_path}/steps')
    (tmp_path / "cluster").symlink_to(CLUSTER)
    monkeypatch.setenv("SLURM_SUBMIT_DIR", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    if cpus is not None:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", cpus)
    subprocess.run([CLUSTER / "slurm" / "run.sh", "embed", "two words"], check=True)
    given = [] if cpus is None else ["--cpus-per-task=8"]
    task = ["python", f"{tmp_path}/cluster/slurm/task.py", f"{tmp_path}/.dasksne-7"]
    step = (tmp_path / "steps").read_text().splitlines()
    assert step == [*given, *task, "embed", "two words"]


@pytest.mark.parametrize(("second_comes", "begins_with"), [(True, 2), (False, 1)])
def test_slurm_jobs_are_waited_for_and_those_that_are_there_begin(second_comes, begins_with):
    """In this process: the first of two jobs starts at once, the second a little later or never."""
    spec = spec_from_file_location("jobs", CLUSTER / "slurm" / "jobs.py")
    jobs = module_from_spec(spec)
    spec.loader.exec_module(jobs)

    class Cluster(LocalCluster):
        def __init__(self, **_):
            super().__init__(n_workers=0, processes=False, dashboard_address=":0")

        def adapt(self, minimum_jobs, maximum_jobs):
            assert minimum_jobs == maximum_jobs == 2
            self.scale(1)
            if second_comes:
                threading.Timer(0.3, self.scale, [2]).start()

    found = []
    jobs.SLURMCluster, jobs.JOBS = Cluster, 2
    jobs.WORKER_SECONDS = 60 if second_comes else 0.3
    jobs.main = lambda arguments: found.append((arguments, len(get_client().nthreads())))
    jobs.start(["info"])
    assert found == [(["info"], begins_with)]

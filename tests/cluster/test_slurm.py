"""The SLURM templates make the digits: real daemons, one node, started here as root."""

import getpass
import os
import re
import shutil
import socket
import subprocess
from contextlib import ExitStack

import pytest
from templates import CLUSTER, ENVIRONMENT, PATH, ROOT, assert_digits, running, wait_until

MISSING = [name for name in ("slurmctld", "slurmd", "munged") if not shutil.which(name, path=PATH)]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {MISSING}: apt-get install slurm-wlm munge"),
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM's daemons are started by root alone"),
]

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
SlurmUser=root
SlurmdUser=root
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
MpiDefault=none
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=8000
PartitionName=main Nodes={host} Default=YES State=UP
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return an empty folder; its path must be short, as sockets are in it."""
    return tmp_path_factory.mktemp("slurm")


@pytest.fixture(scope="module")
def slurm(folder):
    """Have a SLURM of one node; return the environment in which its commands find it."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(2)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in sockets]
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, ports=ports, folder=folder))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    folder.chmod(0o711)  # munged wants its socket to be reached by all
    environment = {
        **ENVIRONMENT,
        "SLURM_CONF": str(folder / "slurm.conf"),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        # Seconds are enough to know that a job is lost, where jobs are started in seconds.
        "DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "2s",
    }
    munge = ["munged", "--foreground", "--force", f"--key-file={folder}/munge.key"]
    munge += [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "pid-file")]
    munge += [f"--{name}-file={folder}/munge.{name}" for name in ("log", "seed")]
    with ExitStack() as daemons:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D"]):
            log = folder / f"{command[0]}.log"
            daemons.enter_context(running(*command, log=log, env=environment))
            if command is munge:
                wait_until((folder / "munge.socket").exists, "munged")
        wait_until(lambda: "idle" in ask(environment, "sinfo"), "SLURM's node")
        yield environment
        # What is left of a test that failed would outlive the daemons.
        ask(environment, "scancel", "--user", getpass.getuser())
        wait_until(lambda: not ask(environment, "squeue", "--noheader"), "the end of all jobs")


def ask(environment, *command):
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout


def test_the_batch_job_makes_the_digits_inside_its_allocation(slurm, folder):
    size = ("--ntasks=4", "--cpus-per-task=1", "--mem-per-cpu=1000")
    command = ("embed", "digits", "-o", str(folder / "batch.zarr"))
    log = folder / "batch.log"
    script = ("cluster/slurm/run.sh", *command)
    job = ask(slurm, "sbatch", "--parsable", *size, f"--output={log}", *script).strip()

    def state():
        found = re.search(r"JobState=(\w+)", ask(slurm, "scontrol", "show", "job", job))[1]
        return found not in {"PENDING", "RUNNING", "COMPLETING"} and found

    assert wait_until(state, "the batch job", seconds=600) == "COMPLETED", log.read_text()
    assert_digits(folder / "batch.zarr")
    assert log.read_text().count("Start worker at:      tls://") == 2
    assert "tcp://" not in log.read_text()
    assert not list(ROOT.glob(".dasksne-*"))


def test_a_job_that_is_lost_is_replaced_and_the_digits_are_made(slurm, folder):
    environment = {**slurm, "JOBS": "2", "CPUS": "1", "MEMORY": "1GB"}
    script = (CLUSTER / "slurm" / "jobs.sh", "embed", "digits", "-o", folder / "jobs.zarr")
    log = folder / "jobs.log"

    def jobs():
        return set(ask(slurm, "squeue", "-h", "-t", "RUNNING", "-o", "%i").split())

    with running(*script, log=log, env=environment, cwd=folder) as process:
        first = wait_until(lambda: len(jobs()) == 2 and jobs(), "two jobs")
        wait_until(lambda: "stage 1" in log.read_text(), "the first stage")
        subprocess.run(["scancel", min(first)], env=slurm, check=True)
        wait_until(lambda: jobs() - first, "a job in the place of the cancelled one")
        assert process.wait(timeout=600) == 0, log.read_text()
    assert_digits(folder / "jobs.zarr")
    logs = [path.read_text() for path in (folder / "dasksne-jobs").glob("*.err")]
    assert sum("Start worker at:      tls://" in text for text in logs) >= 3
    wait_until(lambda: not jobs(), "the end of the jobs")

"""What jobs.sh runs: a scheduler here, workers in jobs of their own, and the command."""

import os
import sys
from contextlib import suppress

from dask.distributed import Client, Security
from dask_jobqueue import SLURMCluster

from dasksne.cli import main

JOBS = int(os.environ.get("JOBS", "4"))
CPUS = int(os.environ.get("CPUS", "4"))
MEMORY = os.environ.get("MEMORY", "16GB")
MINUTES = int(os.environ.get("MINUTES", "60"))
"""That a job may take; the run may take longer."""
WORKER_SECONDS = 300
"""To wait for all jobs once the first has started: a plan is made for the memory that is there."""


def start(arguments: list[str]) -> None:
    """Run the command on workers that SLURM starts; a job that is lost is submitted again."""
    with (
        SLURMCluster(
            job_name="dasksne",
            cores=CPUS,
            processes=1,
            memory=MEMORY,
            walltime=str(MINUTES),
            protocol="tls://",
            security=Security(),  # what tls.sh configured
            scheduler_options={"dashboard": False},
            # A worker leaves before its job's time is over, and hands over what it holds.
            worker_extra_args=[
                *("--lifetime", f"{MINUTES - 5}m", "--lifetime-stagger", "4m"),
                "--no-dashboard",
            ],
            local_directory=os.environ.get("TMPDIR", "/tmp"),  # the node's disk  # noqa: S108
            log_directory="dasksne-jobs",
        ) as cluster,
        Client(cluster) as client,
    ):
        # scale(n) would submit no job anew for one that was lost.
        cluster.adapt(minimum_jobs=JOBS, maximum_jobs=JOBS)
        client.wait_for_workers(1)  # however long the queue is
        with suppress(TimeoutError):  # those that come later join in
            client.wait_for_workers(JOBS, timeout=WORKER_SECONDS)
        main(arguments)


if __name__ == "__main__":
    start(sys.argv[1:])

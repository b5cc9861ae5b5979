"""What every task of run.sh runs: a scheduler, a worker, or the command, by the task's number."""

import os
import signal
import sys

from dask.distributed import Client, Security, rpc
from dask_jobqueue.slurm import SLURMRunner

from dasksne.cli import main

CPUS = int(os.environ.get("SLURM_CPUS_PER_TASK", "1"))
MEMORY = os.environ.get("SLURM_MEM_PER_CPU")
"""In MiB; unset where the job asked for --mem, and then Dask looks for itself."""
WORKER_SECONDS = 300
"""To wait for all workers."""


def start(folder: str, arguments: list[str]) -> None:
    """Take this task's part; only the task of the command comes out of the runner."""
    with SLURMRunner(
        scheduler_file=f"{folder}/scheduler.json",
        scheduler_options={"protocol": "tls://", "dashboard": False},
        worker_class="distributed.Nanny",  # starts a worker again that died, with one BLAS thread
        worker_options={
            "protocol": "tls://",
            "dashboard": False,
            "nthreads": CPUS,
            "memory_limit": f"{int(MEMORY) * CPUS}MiB" if MEMORY else "auto",
            "local_directory": os.environ.get("TMPDIR", "/tmp"),  # the node's disk  # noqa: S108
        },
    ) as runner:
        # The runner's own connection, by which it ends the cluster, knows no certificates.
        certificates = Security().get_connection_args("client")
        runner.scheduler_comm = rpc(runner.scheduler_address, connection_args=certificates)
        # It also took Ctrl-C away, at which the command says how to go on.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with Client(runner.scheduler_address) as client:
            client.wait_for_workers(runner.n_workers, timeout=WORKER_SECONDS)
            main(arguments)


if __name__ == "__main__":
    start(sys.argv[1], sys.argv[2:])

"""Real schedulers and workers as processes of their own, to be killed one by one."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from distributed import Client

DASK = Path(sys.executable).with_name("dask")


class Cluster:
    """A scheduler and its workers, each a process without a nanny."""

    def __init__(self, folder, *, host="127.0.0.1", port=0, env=None, inside=None):
        self.folder = Path(folder)
        self.host = host
        self.port = port
        self.env = env or {}
        self.inside = inside
        self.workers = []
        self.scheduler = None
        self.file = self.folder / "scheduler.json"
        self.logs = self.folder / "logs.txt"

    def start_scheduler(self):
        self.file.unlink(missing_ok=True)
        self.scheduler = self._start(
            "scheduler",
            "--host",
            self.host,
            "--port",
            str(self.port),
            "--no-show",
            "--dashboard-address",
            ":0",
            "--scheduler-file",
            self.file,
            inside=self.inside,
        )
        while not self.file.exists():
            assert self.scheduler.poll() is None, self.logs.read_text()
            time.sleep(0.05)

    def start_worker(self, *options, env=None, hidden=None, inside=None):
        """Start a worker; a hidden folder is an empty one of its own where the worker looks.

        Inside a namespace of the network it is on a host of its own.
        """
        self.workers.append(
            self._start(
                "worker",
                "--scheduler-file",
                self.file,
                "--nthreads",
                "1",
                "--no-dashboard",
                "--local-directory",
                self.folder / "workers",
                *(options or ("--no-nanny", "--memory-limit", "2GiB")),
                env=env,
                hidden=hidden,
                inside=inside,
            )
        )
        return self.workers[-1]

    def replenish(self, count=2):
        """Have so many workers alive."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < count:
            self.start_worker()

    def client(self, **options):
        return Client(scheduler_file=str(self.file), **options)

    def kill_worker(self, index=0):
        kill(self.workers[index])

    def close(self):
        for process in [*self.workers, self.scheduler]:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                kill(process)

    def _start(self, *command, env=None, hidden=None, inside=None):
        command = [str(part) for part in (DASK, *command)]
        if inside is not None:
            command = ["ip", "netns", "exec", inside, *command]
        if hidden is not None:
            mounted = f'mount -t tmpfs private "{hidden}" && exec "$0" "$@"'
            command = ["unshare", "--mount", "sh", "-c", mounted, *command]
        with self.logs.open("a") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    **self.env,
                    **(env or {}),
                    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s",
                },
            )


def kill(process):
    process.kill()
    process.wait()


@contextmanager
def cluster_of(folder, workers=2, **options):
    """A cluster of processes that ends with the block."""
    cluster = Cluster(folder, **options)
    with ExitStack() as stack:
        stack.callback(cluster.close)
        cluster.start_scheduler()
        cluster.replenish(workers)
        yield cluster

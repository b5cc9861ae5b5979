"""What the tests of the templates in cluster/ share: real processes, and what a run must say."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import dasksne

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"
TLS = CLUSTER / "tls.sh"
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
"""This environment's programs first; Debian keeps the daemons out of the way of users."""
# The package under test is this checkout's, also in processes with another working folder.
ENVIRONMENT = {**os.environ, "PATH": PATH, "PYTHONPATH": str(ROOT)}


@contextmanager
def running(*command, log, **options):
    """Have a process while the context lasts; what it started ends with it."""
    with (
        Path(log).open("w") as output,
        subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **{"env": ENVIRONMENT, **options},
        ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)


def wait_until(condition, what, seconds=60):
    """Ask again and again; return the first true answer."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} seconds")
        time.sleep(0.1)
    return answer


def assert_digits(path):
    """A run of digits with the default options went to its end."""
    run = dasksne.open_run(path)
    assert run.status == "finished"
    assert run.embedding.shape == (1797, 2)
    # The minimum that every annealed start of digits finds.
    assert run.summary["kl_divergence"] == pytest.approx(2567.3795, abs=1e-3)

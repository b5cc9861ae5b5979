"""How long a cluster is waited for that has no worker, or none that takes tasks."""

import time
import warnings
from collections.abc import Mapping
from typing import Any

import dask
from dask.utils import parse_timedelta

from dasksne.errors import ClusterError


class Patience:
    """Waits as long as Dask's configuration says, and says so when it begins."""

    def __init__(self) -> None:
        self._alone_since: float | None = None

    def renew(self) -> None:
        """Begin anew when next there is nobody: something was computed."""
        self._alone_since = None

    def look(self, workers: Mapping[str, Any], *, first: bool) -> None:
        """Look at the workers that are there, by address, as the scheduler describes them.

        Parameters
        ----------
        workers : mapping
        first : bool
            Whether no worker was there before.

        Raises
        ------
        ClusterError
            None has taken tasks for too long.
        """
        if not all(is_stuck(worker) for worker in workers.values()):
            self.renew()
            return
        limit = dask.config.get("dasksne.workers-timeout")
        paused = (
            f", as all {len(workers)} are paused: their memory is full before they hold anything; "
            "give workers more"
        )
        if self._alone_since is None:
            self._alone_since = time.monotonic()
            gone = "has come yet" if first else "is left"
            what = f"takes tasks{paused}" if workers else gone
            warnings.warn(f"no worker {what}; waiting up to {limit} for new ones", stacklevel=6)
        elif time.monotonic() - self._alone_since > parse_timedelta(limit):
            gone = "came" if first else "came back"
            what = f"took tasks within {limit}{paused}" if workers else f"{gone} within {limit}"
            raise ClusterError(
                f"no worker {what}; the time is dasksne.workers-timeout of Dask's configuration"
            )


def is_stuck(worker: Mapping[str, Any]) -> bool:
    """Say whether a worker waits for memory to become free, with no task that could free it."""
    executing = worker["metrics"].get("task_counts", {}).get("executing", 0)
    return bool(worker["status"] == "paused" and executing == 0)

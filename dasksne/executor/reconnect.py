"""A new scheduler where the lost one was, for a run that goes on from its last checkpoint."""

import time
import warnings

import dask
from dask.utils import parse_timedelta
from distributed import Client

from dasksne.errors import SchedulerLostError

TRY_SECONDS = 5.0
PAUSE_SECONDS = 0.5


def reconnected(lost: SchedulerLostError) -> bool:
    """Wait for a scheduler at the lost one's address and a worker, as Dask's configuration says.

    A client tries to reconnect for some seconds by itself. Where it has given up, a new one
    becomes Dask's current client.
    """
    patience = dask.config.get("dasksne.scheduler-timeout")
    if parse_timedelta(patience) <= 0:
        return False
    client = lost.client
    warnings.warn(f"{lost}; waiting up to {patience} for another one there", stacklevel=4)
    deadline = time.monotonic() + parse_timedelta(patience)
    while (left := deadline - time.monotonic()) > 0:
        if client.status in ("connecting", "closing"):
            time.sleep(PAUSE_SECONDS)
            continue
        try:
            if client.status != "running":
                client = Client(
                    lost.address, security=client.security, timeout=min(left, TRY_SECONDS)
                )
            client.wait_for_workers(1, timeout=left)
        except (OSError, TimeoutError):
            time.sleep(PAUSE_SECONDS)
        else:
            return True
    return False

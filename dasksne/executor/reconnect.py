"""A new scheduler where the lost one was, for a run that goes on from its last checkpoint."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from dask.utils import parse_timedelta
from distributed import Client

from dasksne.errors import SchedulerLostError

TRY_SECONDS = 5.0
PAUSE_SECONDS = 0.5


@contextmanager
def reconnected(lost: SchedulerLostError) -> Iterator[None]:
    """Wait for a scheduler at the lost one's address and a worker, as Dask's configuration says.

    A client tries to reconnect for some seconds by itself. Where it has given up, a new one is
    Dask's current client meanwhile, also inside a block of the old one's.

    Raises
    ------
    SchedulerLostError
        The one given: none came.
    """
    client = _client_there(lost)
    if client is None:
        raise lost
    if client is lost.client:
        yield
        return
    with client, client.as_current():
        yield


def _client_there(lost: SchedulerLostError) -> Client | None:
    """Return the lost client where it found its way back, else a new one, or None."""
    patience = dask.config.get("dasksne.scheduler-timeout")
    if parse_timedelta(patience) <= 0:
        return None
    client = lost.client
    warnings.warn(f"{lost}; waiting up to {patience} for another one there", stacklevel=6)
    deadline = time.monotonic() + parse_timedelta(patience)
    while (left := deadline - time.monotonic()) > 0:
        if client.status in ("connecting", "closing"):
            time.sleep(PAUSE_SECONDS)
            continue
        try:
            if client.status != "running":
                client = Client(
                    lost.address,
                    security=client.security,
                    timeout=min(left, TRY_SECONDS),
                    # One that does not get there would stay in Dask's configuration.
                    set_as_default=False,
                )
            client.wait_for_workers(1, timeout=left)
        except (OSError, TimeoutError):
            time.sleep(PAUSE_SECONDS)
        else:
            return client
    if client is not lost.client:
        client.close()
    return None

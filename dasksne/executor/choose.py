"""The executor that Dask's own collections would use now."""

import dask
from dask.system import CPU_COUNT
from distributed import Client, get_client

from dasksne.errors import InvalidInputError
from dasksne.executor.base import Executor
from dasksne.executor.client import ClientExecutor
from dasksne.executor.preflight import require_same_versions
from dasksne.executor.threads import ThreadExecutor

SYNCHRONOUS = ("sync", "synchronous", "single-threaded")
THREADED = ("threads", "threading")
DISTRIBUTED = ("dask.distributed", "distributed")


def current_executor() -> Executor:
    """Return the executor for Dask's configured scheduler, else its client, else threads."""
    scheduler = dask.config.get("scheduler", None)
    if scheduler in SYNCHRONOUS:
        return ThreadExecutor(1, synchronous=True)
    if isinstance(scheduler, Client):
        return _on(scheduler)
    if scheduler is None or scheduler in DISTRIBUTED:
        try:
            client = get_client()
        except ValueError:
            pass
        else:
            return _on(client)
    elif scheduler not in THREADED:
        raise InvalidInputError(
            f"scheduler={scheduler!r} of Dask's configuration cannot run SNE; use 'threads', "
            "'synchronous' or a distributed Client"
        )
    return ThreadExecutor(dask.config.get("num_workers", None) or CPU_COUNT)


def _on(client: Client) -> ClientExecutor:
    """Return the executor of a client whose workers are set up as this process is."""
    if client.asynchronous:
        raise InvalidInputError(
            "the current Dask client is asynchronous, and SNE waits for its results; "
            "make it with Client(..., asynchronous=False)"
        )
    executor = ClientExecutor(client)
    require_same_versions(client)
    return executor

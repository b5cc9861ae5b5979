"""Work on the workers of a Dask cluster."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from dask.sizeof import sizeof
from distributed import Client, Future, wait

from dasksne.errors import InvalidInputError
from dasksne.executor.base import Handle
from dasksne.executor.blas import one_blas_thread

INLINE_BYTES = 1_000_000
"""A value of at most so many bytes travels inside each task; a larger one is scattered once."""
WORKER_SECONDS = 60
"""To wait for the first worker: a batch system starts it after the scheduler."""


class ClientExecutor:
    """Runs tasks through a Dask client; results stay on workers until they are asked for."""

    shares_memory = False

    def __init__(self, client: Client) -> None:
        self._client = client
        self._blas = one_blas_thread()
        workers = client.scheduler_info(n_workers=-1)["workers"]
        self.n_threads = max(1, sum(worker["nthreads"] for worker in workers.values()))
        limits = [worker["memory_limit"] for worker in workers.values()]
        # A worker without a limit says 0 or None: nothing is known that could be refused.
        self._memory = sum(limits) if all(limits) else sys.maxsize

    def __enter__(self) -> Self:
        self._blas.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._blas.__exit__(kind, error, trace)

    def memory_found(self) -> int:
        """Return the sum of the workers' limits, half of which Dask holds before it spills."""
        return self._memory // 2

    def blind_workers(self, path: str) -> list[str]:
        """Return the addresses of the workers that do not see a path of this machine."""
        seen = self._client.run(os.path.exists, path)
        return sorted(address for address, found in seen.items() if not found)

    def broadcast(self, value: Any) -> Handle:
        """Scatter a large array to all workers; leave a small one to travel with the tasks."""
        if sizeof(value) <= INLINE_BYTES:
            return value
        # In a list: a tuple of arrays is one value, not several.
        (handle,) = self._client.scatter([value], broadcast=True, hash=False)
        return handle

    def map(self, function: Callable[..., Any], items: Iterable[Any], *shared: Any) -> list[Handle]:
        """Start function(item, *shared) for each item, as tasks that can be run again."""
        return [
            self._client.submit(_limited, function, item, *shared, pure=False) for item in items
        ]

    def result(self, handle: Handle) -> Any:
        """Bring a result to this process."""
        return handle.result() if isinstance(handle, Future) else handle

    def wait(self, handle: Handle) -> None:
        """Wait for a result, which stays on its worker."""
        wait(handle)
        if handle.status != "finished":
            handle.result()  # raises what the task raised


@contextmanager
def connected(address: str | None = None, scheduler_file: str | None = None) -> Iterator[None]:
    """Make a cluster's client the current one for a while; without either, change nothing.

    Parameters
    ----------
    address : str, optional
        Of a scheduler, such as tcp://host:8786.
    scheduler_file : path, optional
        The file that a scheduler wrote its address to, which must exist.

    Raises
    ------
    OSError
        The scheduler does not answer, or no worker comes.
    InvalidInputError
        The scheduler speaks TLS and no certificates are configured, or the other way round.
    """
    if address is None and scheduler_file is None:
        yield
        return
    with _connect(address, scheduler_file) as client:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
        yield


def _connect(address: str | None, scheduler_file: str | None) -> Client:
    try:
        return Client(address, scheduler_file=scheduler_file)
    except (TypeError, RuntimeError) as error:  # what Dask raises for either mismatch
        raise InvalidInputError(
            f"the scheduler of {address or scheduler_file} cannot be reached as configured: one at "
            "tls://... needs --tls-ca-file, --tls-cert and --tls-key, one at tcp://... none of them"
        ) from error


def _limited(function: Callable[..., Any], *arguments: Any) -> Any:
    with one_blas_thread():
        return function(*arguments)

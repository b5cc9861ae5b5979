"""Work on the workers of a Dask cluster."""

import asyncio
import json
import os
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dask
from dask.sizeof import sizeof
from dask.utils import format_bytes, parse_timedelta
from distributed import Client, Future, KilledWorker, span
from distributed.comm import CommClosedError

from dasksne.errors import ClusterError, InvalidInputError, ResourceError, SchedulerLostError
from dasksne.executor.base import Handle
from dasksne.executor.blas import one_blas_thread

INLINE_BYTES = 2_000_000
"""What travels inside tasks, all its copies together; more is sent once, a round trip earlier."""
WORKER_SECONDS = 60
"""To wait for the first worker: a batch system starts it after the scheduler."""
POLL_SECONDS = 2
"""Between looks at whether a worker is left, while a result is waited for."""
EVENT_SECONDS = 1.0
GATHER_SECONDS = 60
"""For a finished result to come here before anybody looks whether its worker is still there."""


class ClientExecutor:
    """Runs tasks through a Dask client; results stay on workers until they are asked for.

    Whatever tasks need is a task's result or travels inside a task: all of it can be made again,
    so the scheduler makes good the loss of any worker, and only what was lost is computed again.
    """

    shares_memory = False

    def __init__(self, client: Client) -> None:
        self._client = client
        self._blas = one_blas_thread()
        self._alone_since: float | None = None
        self._logged = -EVENT_SECONDS
        workers = client.scheduler_info(n_workers=-1)["workers"]
        self._address = str(client.scheduler.address)
        self._held: dict[int, tuple[Any, Future]] = {}
        self.n_processes = max(1, len(workers))
        self.n_threads = max(1, sum(worker["nthreads"] for worker in workers.values()))
        limits = [worker["memory_limit"] for worker in workers.values()]
        # A worker without a limit says 0 or None, one that is still to come says nothing: nothing
        # is known that could be refused.
        self._memory = sum(limits) if limits and all(limits) else sys.maxsize

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
        seen = self._on_those_alive(os.path.exists, path)
        return sorted(address for address, found in seen.items() if not found)

    def on_each_worker(self, function: Callable[[], Any]) -> dict[str, Any]:
        """Return what a function gives on each worker, beside the worker's own business."""
        return self._on_those_alive(_in_a_thread, function)

    def _on_those_alive(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Run a function on each worker; one that dies meanwhile has nothing to say."""
        with self._named_losses():
            found = self._client.run(function, *arguments, on_error="return")
        for said in found.values():
            if isinstance(said, Exception) and not isinstance(said, OSError):
                raise said
        return {at: said for at, said in found.items() if not isinstance(said, Exception)}

    def stage(self, name: str) -> AbstractContextManager[Any]:
        """Put the tasks that are started meanwhile into a span of Dask's dashboard."""
        return span("dasksne", name)  # type: ignore[no-any-return]

    def log_event(self, event: Mapping[str, Any]) -> None:
        """Log an event under "dasksne", one in EVENT_SECONDS at most: each is a round trip."""
        now = time.monotonic()
        if now - self._logged >= EVENT_SECONDS:
            self._logged = now
            with self._named_losses():
                self._client.log_event("dasksne", dict(event))

    def broadcast(self, value: Any, readers: int = 2) -> Handle:
        """Send a large array to all workers, once; leave a small one to travel with its readers.

        It is a task's result, not scattered data, which would be gone with its last worker.
        """
        return value if readers * sizeof(value) <= INLINE_BYTES else self._send(value)

    def hold(self, value: Any) -> None:
        """Send a value to all workers; it is known by its identity."""
        self._held[id(value)] = value, self._send(value)

    def _send(self, value: Any) -> Future:
        with (
            self._named_losses(),
            dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 PiB"}),
        ):
            sent = self._client.submit(_Constant(value), key=_key("broadcast", ""))
        self.wait(sent)
        # Tasks go where their data is: were it on one worker, so would most of them be. A copy
        # that a dying worker does not take or give costs time only.
        with suppress(Exception):
            self._client.replicate([sent])
        return sent

    def map(self, function: Callable[..., Any], items: Iterable[Any], *shared: Any) -> list[Handle]:
        """Start function(item, *shared) for each item, as tasks that can be run again."""
        name = getattr(function, "__name__", "task").lstrip("_")
        shared = tuple(self._held.get(id(value), (value, value))[1] for value in shared)
        with self._named_losses():
            return [
                self._client.submit(
                    _limited, function, item, *shared, key=_key(name, _rows_of(item))
                )
                for item in items
            ]

    def reduce(self, function: Callable[..., Any], handles: Sequence[Handle]) -> Handle:
        """Start function(results) on a worker: only what it returns comes here, in one trip."""
        name = getattr(function, "__name__", "task").lstrip("_")
        with self._named_losses():
            return self._client.submit(_limited, function, list(handles), key=_key(name, ""))

    def result(self, handle: Handle) -> Any:
        """Bring a result to this process.

        Raises
        ------
        ClusterError
            The scheduler is gone, or no worker came back in time.
        ResourceError
            The task was lost with its worker again and again.
        """
        if not isinstance(handle, Future):
            return handle
        self.wait(handle)
        patience = GATHER_SECONDS
        while True:
            with self._named_losses():
                try:
                    return handle.result(timeout=patience)
                except TimeoutError:
                    # A task's own, unless its result is still on the way.
                    if handle.status == "error":
                        raise
            self._require_workers()
            patience *= 2

    def wait(self, handle: Handle) -> None:
        """Wait for a result, which stays on its worker; raises as `result` does."""
        if not handle.done():
            # Dask's own wait asks the current client. `as_current` would make this one that, and
            # puts back a scheduler that is gone where the client was closed meanwhile.
            done = threading.Event()
            with self._named_losses():
                handle.add_done_callback(lambda _: done.set())
            while not (done.wait(POLL_SECONDS) or handle.done()):
                self._require_workers()
        if handle.status != "finished":
            with self._named_losses():
                handle.result()  # raises what the task raised

    def _require_workers(self) -> None:
        """Be patient for a while where no worker is left."""
        limit = dask.config.get("dasksne.workers-timeout")
        with self._named_losses():
            workers = self._client.nthreads()
        if workers:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
            warnings.warn(f"no worker is left; waiting up to {limit} for new ones", stacklevel=5)
        elif time.monotonic() - self._alone_since > parse_timedelta(limit):
            raise ClusterError(
                f"no worker came back within {limit}, which is dasksne.workers-timeout of Dask's "
                "configuration"
            )

    @contextmanager
    def _named_losses(self) -> Iterator[None]:
        """Say in plain words what a cluster has lost."""
        try:
            yield
        except KilledWorker as error:
            worker = error.last_worker
            raise ResourceError(
                f"{_described(error.task)} was lost with its worker {error.allowed_failures + 1} "
                f"times, the last time with {worker.address}, which had "
                f"{format_bytes(worker.memory_limit)} of memory for {worker.nthreads} tasks at once"
            ) from error
        except (CancelledError, OSError, RuntimeError) as error:
            # Nothing is cancelled here: a scheduler that knows nothing of the work is a new one.
            gone = isinstance(error, (CancelledError, CommClosedError))
            if gone or self._client.status != "running":
                raise SchedulerLostError(self._client, self._address) from error
            raise  # the task's own


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
    if scheduler_file is not None:
        _require_scheduler_file(Path(scheduler_file))
    try:
        return Client(address, scheduler_file=scheduler_file)
    except (TypeError, RuntimeError) as error:  # what Dask raises for either mismatch
        raise InvalidInputError(
            f"the scheduler of {address or scheduler_file} cannot be reached as configured: one at "
            "tls://... needs --tls-ca-file, --tls-cert and --tls-key, one at tcp://... none of them"
        ) from error


def _require_scheduler_file(path: Path) -> None:
    """Raise InvalidInputError where Dask would wait for an address, or make a client of none."""
    try:
        found = "address" in dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError):
        found = False
    if not found:
        raise InvalidInputError(
            f"{path} holds no address of a scheduler; give the file that "
            "`dask scheduler --scheduler-file` wrote"
        )


class _Constant:
    """A function that returns a value: Dask looks into a task's arguments, not into this."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self) -> Any:
        return self._value


async def _in_a_thread(function: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(function)


def _limited(function: Callable[..., Any], *arguments: Any) -> Any:
    with one_blas_thread():
        return function(*arguments)


def _key(name: str, rows: str) -> str:
    """Return a new task's key: Dask's dashboard groups by the name, errors quote all but the id."""
    return f"{name}-{rows}-{uuid.uuid4().hex}"


def _described(key: str) -> str:
    """Return what a task does, from its key."""
    name, rows, _ = key.split("-")
    return f"{name} of {rows}" if rows else name


def _rows_of(item: Any) -> str:
    """Return which rows an item stands for, if it says so."""
    if isinstance(item, Future):
        return str(item.key).split("-")[1]
    rows = item if isinstance(item, slice) else getattr(item, "rows", None)
    return f"rows {rows.start} to {rows.stop}" if isinstance(rows, slice) else ""

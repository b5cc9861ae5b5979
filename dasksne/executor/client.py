"""Work on the workers of a Dask cluster."""

import asyncio
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import dask
from dask.base import annotate
from dask.sizeof import sizeof
from dask.system import CPU_COUNT
from dask.utils import format_bytes
from distributed import Client, Future, KilledWorker, Worker, rejoin, secede, span
from distributed.comm import CommClosedError
from distributed.worker import thread_state
from fsspec.core import url_to_fs

from dasksne.errors import ResourceError, SchedulerLostError
from dasksne.executor.base import Handle
from dasksne.executor.blas import one_blas_thread
from dasksne.executor.groups import Grouped, Holders
from dasksne.executor.patience import Patience
from dasksne.executor.preflight import require_same_versions
from dasksne.executor.tasks import described, name_of, new_key, perform, rows_in, rows_of

INLINE_BYTES = 4_000_000
"""What travels inside tasks, all its copies together; more is sent once, a round trip earlier."""
POLL_SECONDS = 2
"""Between looks at whether a worker is left, while a result is waited for."""
STOP_SECONDS = 10
"""For what is being computed to come to its end when the work is given up."""
STOP_POLL_SECONDS = 0.05
EVENT_SECONDS = 1.0
LOOK_SECONDS = 1.0
"""Between looks for workers that came: each is a round trip."""


class ClientExecutor:
    """Runs tasks through a Dask client; results stay on workers until they are asked for.

    Whatever tasks need is a task's result or travels inside a task: all of it can be made again,
    so the scheduler makes good the loss of any worker, and only what was lost is computed again.
    """

    shares_memory = False

    def __init__(self, client: Client) -> None:
        self._client = client
        self._blas = one_blas_thread()
        self._patience = Patience()
        self._logged = -EVENT_SECONDS
        self._looked = time.monotonic()
        self._address = str(client.scheduler.address)
        self._held: dict[int, tuple[Any, Future]] = {}
        self._id = uuid.uuid4().hex
        self._started: WeakSet[Future] = WeakSet()
        self._known: set[str] = set()
        workers = self._first_workers()
        self._known |= set(workers)
        threads = {address: worker["nthreads"] for address, worker in workers.items()}
        self._holders = Holders(threads)
        self.n_processes = len(workers)
        self.n_threads = sum(threads.values())
        limits = [worker["memory_limit"] for worker in workers.values()]
        # A worker without a limit says 0 or None: nothing is known that could be refused.
        self._memory = sum(limits) if all(limits) else sys.maxsize

    def __enter__(self) -> Self:
        # In a task of Dask's: its thread is for those that it waits for, or all might wait.
        self._left = hasattr(thread_state, "key")
        if self._left:
            try:
                secede()
            except KeyError:  # who called has left it already
                self._left = False
        self._blas.__enter__()
        self._here = ThreadPoolExecutor(min(self.n_threads, CPU_COUNT))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is not None and not isinstance(error, SchedulerLostError):
                self._stop()
        finally:
            self._here.shutdown(cancel_futures=True)
            self._blas.__exit__(kind, error, trace)
            if self._left:
                rejoin()

    def memory_found(self) -> int:
        """Return the sum of the workers' limits, half of which Dask holds before it spills."""
        return self._memory // 2

    def blind_workers(
        self,
        url: str,
        storage_options: Mapping[str, Any] | None = None,
        workers: Sequence[str] | None = None,
    ) -> list[str]:
        """Return the addresses of the workers that do not see a path or URL of this machine."""
        seen = self.on_each_worker(partial(_sees, url, storage_options or {}), workers)
        return sorted(address for address, found in seen.items() if not found)

    def on_each_worker(
        self, function: Callable[[], Any], workers: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Return what a function gives on each worker, beside the worker's own business.

        One that dies meanwhile has nothing to say.
        """
        with self._named_losses():
            found = self._client.run(_in_a_thread, function, workers=workers, on_error="return")
        for said in found.values():
            if isinstance(said, Exception) and not isinstance(said, OSError):
                raise said
        return {at: said for at, said in found.items() if not isinstance(said, Exception)}

    def newcomers(self, *, now: bool = False) -> list[str]:
        """Return the addresses of the workers that came since the last look.

        Unless it must look now, it looks once in LOOK_SECONDS.

        Raises
        ------
        ClusterError
            They have other versions than this process, or lack a package.
        """
        if not now and time.monotonic() - self._looked < LOOK_SECONDS:
            return []
        self._looked = time.monotonic()
        with self._named_losses():
            threads = self._client.nthreads()
            new = sorted(set(threads) - self._known)
            if new:
                require_same_versions(self._client)
        self._holders.renew(threads)
        self._known |= set(threads)
        return new

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
        with self._sending():
            sent = self._client.submit(_Constant(value), key=new_key("broadcast"))
        self._started.add(sent)
        self.wait(sent)
        # Tasks go where their data is: were it on one worker, so would most of them be. A copy
        # that a dying worker does not take or give costs time only.
        with suppress(Exception):
            self._client.replicate([sent])
        return sent

    def map(self, function: Callable[..., Any], items: Iterable[Any], *shared: Any) -> list[Handle]:
        """Start function(item, *shared) for each item, as tasks that can be run again."""
        return self._start(_limited, function, list(items), shared)

    def map_all(
        self, function: Callable[..., Any], items: Iterable[Any], *shared: Any, quick: bool = False
    ) -> Handle:
        """Start function(item, *shared) for each item; what is quick goes in groups."""
        items = list(items)
        groups = [[k] for k in range(len(items))]
        if quick:
            with self._named_losses():
                groups = self._holders.groups(self._client, items)
        together = [[items[k] for k in group] for group in groups]
        return Grouped(groups, self._start(_limited_each, function, together, shared))

    def _start(
        self,
        call: Callable[..., Any],
        function: Callable[..., Any],
        items: list[Any],
        shared: Sequence[Any],
    ) -> list[Future]:
        """Start call(function, item, *shared) for each item."""
        shared = [self._held.get(id(value), (value, value))[1] for value in shared]
        columns = [function], items, *([value] for value in shared)
        repeated = (column if column is items else column * len(items) for column in columns)
        keys = [new_key(name_of(function), _rows_of(item)) for item in items]
        with self._sending():
            # With pure=True Dask would hash all of it, for keys that are given.
            handles = list(self._client.map(call, *repeated, key=keys, pure=False))
        self._started.update(handles)
        return handles

    def aside(self, function: Callable[..., Any], *arguments: Any) -> Handle:
        """Start function(*arguments) on a thread of this process."""
        return self._here.submit(perform, function, *arguments)

    def compute(self, lazy: Any) -> Any:
        """Compute a Dask collection on the workers; their loss is told as that of other tasks."""
        with self._starting():
            handle = self._client.compute(lazy)
        self._started.add(handle)
        return self.result(handle)

    def reduce(self, function: Callable[..., Any], handles: Sequence[Handle]) -> Handle:
        """Start function(results) on a worker: only what it returns comes here, in one trip."""
        key = new_key(name_of(function))
        with self._starting():
            handle = self._client.submit(_limited, function, list(handles), key=key)
        self._started.add(handle)
        return handle

    def result(self, handle: Handle) -> Any:
        """Bring a result to this process.

        Raises
        ------
        ClusterError
            The scheduler is gone, or no worker came back in time.
        ResourceError
            The task was lost with its worker again and again, or found too little memory.
        """
        if isinstance(handle, Grouped):
            return handle.in_order(self._bring(handle.tasks))
        if isinstance(handle, futures.Future):
            return handle.result()
        return self._bring([handle])[0] if isinstance(handle, Future) else handle

    def _bring(self, handles: list[Future]) -> list[Any]:
        """Bring several results to this process in one trip."""
        for handle in handles:
            self.wait(handle)
        # Their workers may be lost on the way, and all others.
        coming = self._begin(self._client.gather, handles)
        try:
            while not futures.wait([coming], POLL_SECONDS).done:
                self._require_workers()
        finally:
            coming.cancel()
        self._patience.renew()
        with self._named_losses():
            return list(coming.result())

    def wait(self, handle: Handle) -> None:
        """Wait for a result, which stays on its worker; raises as `result` does."""
        # One that was done is lost with its worker, and then not done until it is made again.
        while handle.status in ("pending", "lost"):
            # Dask's own wait asks the current client. `as_current` would make this one that, and
            # puts back a scheduler that is gone where the client was closed meanwhile.
            with self._named_losses():
                try:
                    handle.exception(timeout=POLL_SECONDS)
                except TimeoutError:
                    pass
                else:
                    continue
            self._require_workers()
        self._patience.renew()
        if handle.status != "finished":
            with self._named_losses():
                handle.result()  # raises what the task raised

    def _begin(
        self, function: Callable[..., Any], *arguments: Any, **options: Any
    ) -> futures.Future[Any]:
        """Have a method of the client begin, and return what its answer will be in."""
        with self._named_losses():
            loop = self._client.loop.asyncio_loop
            asked = function(*arguments, **options, asynchronous=True)
            return asyncio.run_coroutine_threadsafe(asked, loop)

    def _first_workers(self) -> dict[str, Any]:
        """Wait for a worker: a scheduler is there first, and a plan is made for what is there."""
        with self._named_losses():
            while not (workers := self._workers()):
                with suppress(TimeoutError):
                    self._client.wait_for_workers(1, timeout=POLL_SECONDS)
                self._require_workers()
        return workers

    def _require_workers(self) -> None:
        """Be patient for a while where no worker is left, or none that takes tasks."""
        with self._named_losses():
            try:
                workers = self._workers()
            except OSError:  # the handle will say, should it be for good
                return
        self._patience.look(workers, first=not self._known)

    def _workers(self) -> dict[str, Any]:
        """Return what the scheduler says of each worker.

        The client's own `scheduler_info` may forget them between asking and answering: it also
        asks for less, every two seconds, and keeps both answers in one place.
        """
        said = self._client.sync(self._client.scheduler.identity, n_workers=-1)
        return dict(said["workers"])

    @contextmanager
    def _sending(self) -> Iterator[None]:
        """Send what is as large as it has to be, and name what is lost."""
        quiet = {"distributed.admin.large-graph-warning-threshold": "1 PiB"}
        with self._starting(), dask.config.set(quiet):
            yield

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """Mark what is started as this executor's, and name what is lost."""
        with self._named_losses(), annotate(dasksne=self._id):
            yield

    def _stop(self) -> None:
        """Cancel what was started, and wait a while until nothing of it is executing.

        It may write to a place that is about to be removed.
        """
        deadline = time.monotonic() + STOP_SECONDS
        with suppress(Exception):  # the cluster may be what was lost, and nobody there to ask
            answer = self._begin(self._client.cancel, list(self._started))
            answer.result(timeout=STOP_SECONDS)
            executing = True
            while executing:
                time.sleep(STOP_POLL_SECONDS)
                answer = self._begin(self._client.run, _executes, self._id, on_error="ignore")
                executing = any(answer.result(timeout=deadline - time.monotonic()).values())

    @contextmanager
    def _named_losses(self) -> Iterator[None]:
        """Say in plain words what a cluster has lost."""
        try:
            yield
        except KilledWorker as error:
            worker = error.last_worker
            raise ResourceError(
                f"{described(error.task)} was lost with its worker {error.allowed_failures + 1} "
                f"times, the last time with {worker.address}, which had "
                f"{format_bytes(worker.memory_limit)} of memory for {worker.nthreads} tasks at once"
            ) from error
        except (futures.CancelledError, OSError, RuntimeError, AttributeError) as error:
            # Nothing is cancelled here: a scheduler that knows nothing of the work is a new one. A
            # client that closes meanwhile has none to ask, which is an AttributeError of its own.
            gone = isinstance(error, (futures.CancelledError, CommClosedError))
            if gone or self._client.status != "running":
                raise SchedulerLostError(self._client, self._address) from error
            raise  # the task's own


def _executes(executor: str, dask_worker: Worker) -> bool:
    """Say whether a worker is at a task of an executor's, cancelled or not."""
    tasks = dask_worker.state.executing
    return any((task.annotations or {}).get("dasksne") == executor for task in tasks)


class _Constant:
    """A function that returns a value: Dask looks into a task's arguments, not into this."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self) -> Any:
        return self._value


def _sees(url: str, storage_options: Mapping[str, Any]) -> bool:
    try:
        files, path = url_to_fs(url, **storage_options)
        return bool(files.exists(path))
    except Exception:  # noqa: BLE001 - of whatever a protocol lacks there: package, network, rights
        return False


async def _in_a_thread(function: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(function)


def _limited(function: Callable[..., Any], *arguments: Any) -> Any:
    with one_blas_thread():
        return perform(function, *arguments)


def _limited_each(function: Callable[..., Any], items: Sequence[Any], *shared: Any) -> list[Any]:
    return [_limited(function, item, *shared) for item in items]


def _rows_of(item: Any) -> str:
    """Return which rows an item stands for, also where it is still a task, or one of a group."""
    if isinstance(item, list):
        more = f" and {len(item) - 1} more" if len(item) > 1 else ""
        return _rows_of(item[0]) + more
    return rows_in(item.key) if isinstance(item, Future) else rows_of(item)

"""Work on the threads of this process, or on its main thread alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor as Pool
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

from dask.local import SynchronousExecutor

from dasksne.executor.base import Handle
from dasksne.executor.blas import one_blas_thread
from dasksne.executor.memory import available_memory
from dasksne.executor.tasks import perform


class ThreadExecutor:
    """Runs tasks on a pool of threads; with synchronous=True, each as soon as it is started."""

    n_processes = 1
    shares_memory = True

    def __init__(self, n_threads: int, *, synchronous: bool = False) -> None:
        self.n_threads = 1 if synchronous else n_threads
        self._synchronous = synchronous
        self._blas = one_blas_thread()

    def __enter__(self) -> Self:
        self._blas.__enter__()
        self._pool: Pool = (
            SynchronousExecutor() if self._synchronous else ThreadPoolExecutor(self.n_threads)
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._blas.__exit__(kind, error, trace)

    def memory_found(self) -> int:
        """Return what this process may still take."""
        return available_memory()

    def blind_workers(
        self,
        url: str,  # noqa: ARG002 - the protocol's
        storage_options: Mapping[str, Any] | None = None,  # noqa: ARG002
        workers: Sequence[str] | None = None,  # noqa: ARG002
    ) -> list[str]:
        """Return nothing: threads see what the process sees."""
        return []

    def on_each_worker(
        self,
        function: Callable[[], Any],  # noqa: ARG002
        workers: Sequence[str] | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return nothing: all work is done in this process."""
        return {}

    def newcomers(self, *, now: bool = False) -> list[str]:  # noqa: ARG002
        """Return nothing: threads do not come and go."""
        return []

    def stage(self, name: str) -> AbstractContextManager[Any]:  # noqa: ARG002
        """Do nothing: threads have no dashboard."""
        return nullcontext()

    def log_event(self, event: Mapping[str, Any]) -> None:
        """Do nothing: threads have no dashboard."""

    def broadcast(self, value: Any, readers: int = 2) -> Handle:  # noqa: ARG002
        """Return the value itself."""
        return value

    def hold(self, value: Any) -> None:
        """Do nothing: threads see what this process holds."""

    def map(self, function: Callable[..., Any], items: Iterable[Any], *shared: Any) -> list[Handle]:
        """Start function(item, *shared) for each item."""
        return [
            self._pool.submit(
                perform, function, *(_value(argument) for argument in (item, *shared))
            )
            for item in items
        ]

    def map_all(
        self,
        function: Callable[..., Any],
        items: Iterable[Any],
        *shared: Any,
        quick: bool = False,  # noqa: ARG002 - a task costs threads next to nothing
    ) -> Handle:
        """Start function(item, *shared) for each item, and return all handles as one."""
        return self.map(function, items, *shared)

    def aside(self, function: Callable[..., Any], *arguments: Any) -> Handle:
        """Start function(*arguments) as a task like others."""
        return self._pool.submit(perform, function, *arguments)

    def compute(self, lazy: Any) -> Any:
        """Compute a Dask collection on these threads."""
        return lazy.compute(scheduler=self._pool)

    def reduce(self, function: Callable[..., Any], handles: Sequence[Handle]) -> Handle:
        """Wait for the results, and start function(results)."""
        return self._pool.submit(perform, function, [_value(handle) for handle in handles])

    def result(self, handle: Handle) -> Any:
        """Wait for a result, or for those of all items."""
        if isinstance(handle, list):
            return [part.result() for part in handle]
        return handle.result()

    def wait(self, handle: Handle) -> None:
        """Wait for a result."""
        handle.result()


def _value(argument: Any) -> Any:
    return argument.result() if isinstance(argument, Future) else argument

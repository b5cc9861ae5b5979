"""What an executor does, whichever it is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

Handle: TypeAlias = Any
"""A result that stays where it was computed: an item or argument of later work."""


class Executor(Protocol):
    """Runs functions on row blocks; results come in the order of the items."""

    n_threads: int
    """How many tasks run at once, over all processes."""
    n_processes: int
    """How many workers there are, or one."""
    shares_memory: bool
    """Whether tasks see this process's memory."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def memory_found(self) -> int:
        """Return the bytes of memory that tasks may use, over all processes."""
        ...

    def blind_workers(
        self,
        url: str,
        storage_options: Mapping[str, Any] | None = None,
        workers: Sequence[str] | None = None,
    ) -> list[str]:
        """Return which workers, of those given or all, do not see a path or URL."""
        ...

    def on_each_worker(
        self, function: Callable[[], Any], workers: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Return what a function gives on each worker that is not this process, by address."""
        ...

    def newcomers(self, *, now: bool = False) -> list[str]:
        """Return the addresses of the workers that came; nobody looks every time it is asked."""
        ...

    def stage(self, name: str) -> AbstractContextManager[Any]:
        """Name what is started meanwhile, for those who look at a dashboard."""
        ...

    def log_event(self, event: Mapping[str, Any]) -> None:
        """Tell those who look at a dashboard how far the work is; not every time it is called."""
        ...

    def broadcast(self, value: Any, readers: int = 2) -> Handle:
        """Put a value, the same for all tasks, where so many tasks read it (or some more)."""
        ...

    def hold(self, value: Any) -> None:
        """Keep a value on the workers: they use it wherever it is shared with items."""
        ...

    def map(self, function: Callable[..., Any], items: Iterable[Any], *shared: Any) -> list[Handle]:
        """Start function(item, *shared) for each item; return the handles of the results."""
        ...

    def map_all(
        self, function: Callable[..., Any], items: Iterable[Any], *shared: Any, quick: bool = False
    ) -> Handle:
        """Start function(item, *shared) for each item; the handle is for `result` alone.

        That is the list of all results, which come here in one trip. Of what is quick all items are
        handles; those that one worker holds go together, as far as one thread can do them.
        """
        ...

    def aside(self, function: Callable[..., Any], *arguments: Any) -> Handle:
        """Start function(*arguments) in this process; the handle is for `result` alone."""
        ...

    def compute(self, lazy: Any) -> Any:
        """Compute a Dask collection by tasks, and bring its value here."""
        ...

    def reduce(self, function: Callable[..., Any], handles: Sequence[Handle]) -> Handle:
        """Start function(results), of all results in the order of their handles."""
        ...

    def result(self, handle: Handle) -> Any:
        """Wait for a result and bring it here."""
        ...

    def wait(self, handle: Handle) -> None:
        """Wait for a result without bringing it here."""
        ...

"""One BLAS thread per task: the bits of a product must not depend on how many threads made it."""

import threading
from contextlib import ContextDecorator
from functools import cache
from types import TracebackType
from typing import Any, Self

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_holders = 0
_limit: Any = None


@cache
def _controller() -> Any:
    return ThreadpoolController()


def _let_any_thread_set_limits() -> None:
    """Have no thread in control of OpenBLAS, which has one limit a process.

    From 3.8 on threadpoolctl gives control to the thread that sets a limit first, as long as that
    lives, and silently does nothing for others: tasks, which come on any thread, would have all of
    OpenBLAS's own.
    """
    for library in _controller().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


class one_blas_thread(ContextDecorator):  # noqa: N801 - reads as the context that it is
    """Hold BLAS at one thread; the last of several holders gives the threads back.

    The limit belongs to the process: were each task to restore what it found, a task that ends
    would give threads to one that still runs.
    """

    def __enter__(self) -> Self:
        global _holders, _limit  # noqa: PLW0603 - the limit is the process's
        with _lock:
            if _holders == 0:
                _let_any_thread_set_limits()
                _limit = _controller().limit(limits=1, user_api="blas")
            _holders += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _holders  # noqa: PLW0603
        with _lock:
            _holders -= 1
            if _holders == 0:
                _let_any_thread_set_limits()
                _limit.restore_original_limits()
                _let_any_thread_set_limits()

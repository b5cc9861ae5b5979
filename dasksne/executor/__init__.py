"""Where work runs: on this process's threads, or on the current Dask client."""

from dasksne.executor.base import Executor, Handle
from dasksne.executor.choose import current_executor
from dasksne.executor.client import connected
from dasksne.executor.defaults import add_defaults

__all__ = ["Executor", "Handle", "connected", "current_executor"]

add_defaults()

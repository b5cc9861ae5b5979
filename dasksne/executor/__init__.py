"""Where work runs: on this process's threads, or on the current Dask client."""

from dasksne.executor.base import Executor, Handle
from dasksne.executor.choose import current_executor
from dasksne.executor.connect import connected
from dasksne.executor.defaults import add_defaults
from dasksne.executor.reconnect import reconnected

__all__ = ["Executor", "Handle", "connected", "current_executor", "reconnected"]

add_defaults()

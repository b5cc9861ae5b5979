"""The errors that users meet; each message says what was given, what is allowed, what to do."""

from typing import Any, Self


class DasksneError(Exception):
    """Base of every error that this package raises on purpose."""


class InvalidInputError(DasksneError, ValueError):
    """Data or an option is not what the computation can take."""


class StoreError(DasksneError, OSError):
    """A store exists already, cannot be written, or holds something else."""


class DamageError(StoreError):
    """What a store holds is not what was written there."""


class ResourceError(MemoryError, DasksneError):  # in this order Dask can send it from a worker
    """The work cannot fit in the memory or on the disk that was found."""


class ClusterError(DasksneError, ConnectionError):
    """The cluster that the work runs on is gone, or is not fit for it."""


class SchedulerLostError(ClusterError):
    """The connection to the Dask scheduler is gone, and with it all that workers held."""

    def __init__(self, client: Any, address: str) -> None:
        super().__init__(f"the connection to the Dask scheduler at {address} is lost")
        self.client = client
        self.address = address

    def alone(self) -> Self:
        """Return the error without the frames that it came through, and all that they hold."""
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)

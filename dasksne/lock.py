"""One process at a time works on a run: a lock that dies with its owner.

The lock is `flock` on a small file beside the run, which the kernel frees when the process that
holds it ends, however it ends: no lock is ever stale. It holds on local disks and, between hosts,
on NFS version 4. A run at a URL has none: object stores have no lock that dies with its owner.
"""

import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such lock
    fcntl = None  # type: ignore[assignment]

from dasksne.errors import StoreError
from dasksne.run import Run


@contextmanager
def locked(run: Run | None) -> Iterator[None]:
    """Keep other processes from working on a run; None and URLs are not locked.

    Raises
    ------
    StoreError
        Another process works on the run; the message has its number, host and start.
    """
    if run is None or run.path is None or fcntl is None:
        yield
        return
    file = run.path.with_name(f".{run.path.name}.lock")
    held = _acquire(run, file)
    try:
        yield
    finally:
        if held is not None:
            with suppress(OSError):  # a disk that became read-only: the lock goes all the same
                file.unlink()
            os.close(held)


def _acquire(run: Run, file: Path) -> int | None:
    """Return the locked file; None where the file system has no locks."""
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            held = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"{run.url} cannot be locked for writing: {error}") from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(held, 1000).decode(errors="replace") or "a process that just started"
            os.close(held)
            raise StoreError(
                f"{run.url} is being worked on by {holder}; wait for it or stop it"
            ) from error
        except OSError as error:
            os.close(held)
            warnings.warn(
                f"{run.url} lies on a file system without locks ({error.strerror}); make sure that "
                "no other process works on it",
                stacklevel=5,
            )
            return None
        if _is_at(held, file):
            _sign(held)
            return held
        os.close(held)  # its last holder removed it between our opening and locking it


def _is_at(held: int, file: Path) -> bool:
    """Say whether an open file is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(held), file.stat())
    except FileNotFoundError:
        return False


def _sign(held: int) -> None:
    """Write who holds the lock; on a full disk it holds unsigned."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with suppress(OSError):
        os.ftruncate(held, 0)
        os.write(held, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode())

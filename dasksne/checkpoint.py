"""Checkpoints: everything a run needs to go on, written aside, made current by one pointer."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from dasksne.checksums import checksum
from dasksne.damage import reading
from dasksne.errors import DamageError
from dasksne.run import PLAIN, Run

POINTER = "checkpoints"
"""Attribute of the run: the names of those that are kept, the newest first."""
KEPT = 2
"""Should the newest be damaged, the one before it is still there."""


def save(run: Run, values: Mapping[str, Any]) -> None:
    """Write arrays and plain values as a new checkpoint, then make it the current one.

    Equally large arrays in a tuple are written, and come back, as one.

    A process that dies while it writes leaves the checkpoint before as the current one.
    """
    names = _names(run)
    name = f"{int(names[0]) + 1:08d}" if names else f"{1:08d}"
    run.delete(f"checkpoints/{name}")
    arrays = {
        key: np.asarray(value)
        for key, value in values.items()
        if isinstance(value, (np.ndarray, tuple))
    }
    plain = {key: value for key, value in values.items() if key not in arrays}
    for key, array in arrays.items():
        path = f"checkpoints/{name}/{key}"
        # Compression would save little, as most digits are noise, and a codec of its own for each
        # array takes a copy: the one checksum below is all that a large state has time for.
        run.create_array(path, array.shape, array.shape, array.dtype, codecs=PLAIN)
        if array.size:
            run.write(path, slice(None), array)
    written = run.group("r+", f"checkpoints/{name}")
    written.attrs["kept"] = {
        "values": plain,
        "arrays": sorted(arrays),
        "crc32c": checksum(plain, arrays),
    }
    run.sync(f"checkpoints/{name}")
    kept = [name, *names][:KEPT]
    run.update(**{POINTER: kept})
    for old in names[KEPT - 1 :]:
        run.delete(f"checkpoints/{old}")


class Writer:
    """Writes checkpoints of a run while it goes on.

    A large state takes seconds, in which the driver would only wait for its workers.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._pool = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def begin(self, values: Mapping[str, Any]) -> None:
        """Begin to write when the one before is written; the arrays must not change meanwhile."""
        self.wait()
        self._last = self._pool.submit(save, self._run, values)

    def wait(self) -> None:
        """Wait for what was begun, and raise what stopped it."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def finish(self, values: Mapping[str, Any]) -> None:
        """Write the last one now, whatever became of the one before."""
        self._pool.shutdown()
        save(self._run, values)


def load(run: Run) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the newest checkpoint that reads whole, or None, and the names of damaged ones.

    Raises
    ------
    StoreError
        One cannot be read now: to go on from another would cost it.
    """
    damaged: list[str] = []
    for name in _names(run):
        try:
            with reading(f"checkpoint {name} of {run.url}"):
                return _read(run, name), damaged
        except DamageError:
            damaged.append(name)
    return None, damaged


def drop(run: Run, damaged: list[str]) -> None:
    """Let go of damaged ones, of which the next would else be kept and a sound one not."""
    run.update(**{POINTER: [name for name in _names(run) if name not in damaged]})
    for name in damaged:
        run.delete(f"checkpoints/{name}")


def tidy(run: Run) -> None:
    """Remove what is half written or should be deleted, of processes that were killed meanwhile.

    Who calls has locked the run; at a URL, where there is no lock, all stays.
    """
    if run.path is not None:
        kept = _names(run)
        for folder in (run.path / "checkpoints").glob("[0-9]*"):
            if folder.name not in kept:
                run.delete(f"checkpoints/{folder.name}")


def _names(run: Run) -> list[str]:
    """Return the names of the checkpoints that are kept, the newest first."""
    return [str(name) for name in run.state.get(POINTER, [])]


def _read(run: Run, name: str) -> dict[str, Any]:
    group = run.group(path=f"checkpoints/{name}")
    kept: Any = group.attrs["kept"]
    plain = kept["values"]
    arrays = {key: run.read(f"checkpoints/{name}/{key}") for key in kept["arrays"]}
    if checksum(plain, arrays) != kept["crc32c"]:
        raise ValueError(f"checkpoint {name} is not what was written")
    return {**plain, **arrays}

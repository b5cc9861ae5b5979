"""Checkpoints: everything a run needs to go on, written aside, made current by one pointer."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dasksne.run import Run

POINTER = "checkpoint"
KEPT = 2
"""Should the newest be damaged, the one before it is still there."""


def save(run: Run, values: Mapping[str, Any]) -> None:
    """Write arrays and plain values as a new checkpoint, then make it the current one.

    A process that dies while it writes leaves the checkpoint before as the current one.
    """
    names = _names(run)
    name = f"{int(names[0]) + 1:08d}" if names else f"{1:08d}"
    run.delete(f"checkpoints/{name}")
    arrays = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
    plain = {key: value for key, value in values.items() if key not in arrays}
    for key, array in arrays.items():
        run.create_array(f"checkpoints/{name}/{key}", array.shape, array.shape, array.dtype)
        if array.size:
            run.write(f"checkpoints/{name}/{key}", slice(None), array)
    written = run.group("r+")[f"checkpoints/{name}"]
    written.attrs["values"] = {**plain, "arrays": sorted(arrays)}
    kept = [name, *names][:KEPT]
    run.group("r+").attrs[POINTER] = {"names": kept}
    for old in names[KEPT - 1 :]:
        run.delete(f"checkpoints/{old}")


def load(run: Run) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the newest checkpoint that reads whole, or None, and the names of damaged ones."""
    damaged: list[str] = []
    for name in _names(run):
        try:
            return _read(run, name), damaged
        except (KeyError, ValueError, RuntimeError, OSError):
            damaged.append(name)
    return None, damaged


def _names(run: Run) -> list[str]:
    """Return the names of the checkpoints that are kept, the newest first."""
    pointer: Any = run.group().attrs.get(POINTER, {"names": []})
    return [str(name) for name in pointer["names"]]


def _read(run: Run, name: str) -> dict[str, Any]:
    group = run.group()[f"checkpoints/{name}"]
    kept: Any = group.attrs["values"]
    values = dict(kept)
    for key in values.pop("arrays"):
        array = run.array(f"checkpoints/{name}/{key}")
        if array.size and array.nchunks_initialized != array.nchunks:
            raise ValueError(f"checkpoint {name} lacks chunks of {key}")
        values[key] = np.asarray(array[...])
    return values

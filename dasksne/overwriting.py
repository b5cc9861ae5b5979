"""Data that lies in the very run that is to be replaced: it would be gone before it is read."""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import zarr
from fsspec.core import url_to_fs
from zarr.storage import FsspecStore, LocalStore

from dasksne.errors import InvalidInputError
from dasksne.run import Run
from dasksne.source import StoredRows
from dasksne.staging import Data

INSIDE = ("func", "args", "kwargs", "keywords", "value", "array")
"""Where tasks of Dask's, partial functions and wrapped arrays have what they work with."""


def require_elsewhere(x: Data, store: Run) -> None:
    """Raise InvalidInputError where lazy data is read from a run that is to be replaced."""
    if not isinstance(x, da.Array):
        return
    where = _place(store)
    places = (_place(value) for value in _worked_with(x))
    if any(place == where or place.startswith(f"{where}/") for place in places):
        raise InvalidInputError(
            f"X is read from {store.url}, which overwrite=True would remove before it is read; "
            "choose another path for the new run"
        )


def _worked_with(x: da.Array) -> Iterator[Any]:
    """Yield what the tasks of a lazy array are given, however deep."""
    todo: list[Any] = [dict(x.__dask_graph__())]
    seen: dict[int, Any] = {}
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, zarr.Array | Run | StoredRows):
            yield value
        elif isinstance(value, Mapping):
            todo += value.values()
        elif isinstance(value, list | tuple):
            todo += value
        else:
            todo += [getattr(value, name) for name in INSIDE if hasattr(value, name)]
            todo += vars(value).values() if is_dataclass(value) else []


def _place(value: "zarr.Array[Any] | Run | StoredRows") -> str:
    """Return the path of what is stored, of its file system or bucket; empty where it has none."""
    if isinstance(value, Run | StoredRows):
        if "://" in value.url:
            return str(url_to_fs(value.url, **dict(value.storage_options))[1])
        return str(Path(value.url).resolve())
    if isinstance(value.store, LocalStore):
        return str((value.store.root / value.path).resolve())
    return f"{value.store.path}/{value.path}" if isinstance(value.store, FsspecStore) else ""

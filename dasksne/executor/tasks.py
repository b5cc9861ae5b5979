"""Tasks by their names: Dask's dashboard groups by them, and errors quote them."""

import uuid
from collections.abc import Callable
from typing import Any

import psutil
from dask.utils import format_bytes, key_split

from dasksne.errors import ResourceError


def name_of(function: Callable[..., Any]) -> str:
    """Return what a task of a function is called."""
    return getattr(function, "__name__", "task").lstrip("_")


def rows_of(item: Any) -> str:
    """Return which rows an item stands for, if it says so."""
    rows = item if isinstance(item, slice) else getattr(item, "rows", None)
    return f"rows {rows.start} to {rows.stop}" if isinstance(rows, slice) else ""


def new_key(name: str, rows: str = "") -> str:
    """Return a new task's key: errors quote all but the id."""
    return f"{name}-{rows}-{uuid.uuid4().hex}"


def rows_in(key: str) -> str:
    """Return which rows a task stands for, from its key."""
    return key.split("-")[1]


def described(key: Any) -> str:
    """Return what a task does, from its key, which may be one of a Dask collection."""
    if isinstance(key, tuple):
        return f"{key_split(key)} of block {key[1:]}"
    name, rows, *_ = [*str(key).split("-"), ""]
    return _described(name, rows) if rows.startswith("rows ") else str(key_split(key))


def perform(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, the first of whose arguments is a task's item.

    Raises
    ------
    ResourceError
        It found too little memory.
    """
    try:
        return function(*arguments)
    except ResourceError:
        raise
    except MemoryError as error:
        asked = f": {error}" if str(error) else ""
    # Not while that one is handled: it would come along, and NumPy's own cannot be sent.
    what = _described(name_of(function), rows_of(arguments[0]))
    held = format_bytes(psutil.Process().memory_info().rss)
    raise ResourceError(f"{what} found no memory in a process that held {held}{asked}")


def _described(name: str, rows: str) -> str:
    return f"{name} of {rows}" if rows else name

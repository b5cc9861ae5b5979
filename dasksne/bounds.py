"""How much of a store is read at once at most, looked at before a stranger's store is read.

A description of a few bytes may promise terabytes, and each read makes room for what is promised.
"""

import math
from typing import Any

import psutil

from dasksne.errors import StoreError

MOST = psutil.virtual_memory().total
"""Bytes: all the memory of this machine."""


def require_bounded_chunks(array: Any, name: str) -> None:
    """Raise StoreError where one chunk of a Zarr array takes more than all memory."""
    _require_bounded(array.chunks, array.dtype.itemsize, f"a chunk of {name}")


def require_bounded_rows(array: Any, name: str, rows: slice = slice(None)) -> None:
    """Raise StoreError where rows of a Zarr array take more than all memory."""
    n_rows = [len(range(*rows.indices(n))) for n in array.shape[:1]]
    _require_bounded((*n_rows, *array.shape[1:]), array.dtype.itemsize, name)


def _require_bounded(shape: tuple[int, ...], itemsize: int, what: str) -> None:
    size = math.prod(shape) * itemsize
    if size > MOST:
        raise StoreError(
            f"{what} has shape {shape}, {size / 1e9:,.0f} GB, and cannot be read into the "
            f"{MOST / 1e9:,.0f} GB of this machine"
        )

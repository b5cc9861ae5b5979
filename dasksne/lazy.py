"""What users give that is lazy: Zarr arrays, whose damage is named, and data frames of Dask."""

import zlib
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import zarr
from sklearn.utils._set_output import _get_output_config

from dasksne.bounds import require_bounded_chunks
from dasksne.errors import InvalidInputError

DAMAGE = (RuntimeError, ValueError, EOFError, OSError, zlib.error)
"""What codecs and stores raise where a chunk is not what was written."""


def from_zarr(x: zarr.Array[Any]) -> da.Array:
    """Return a Zarr array as a Dask array; to read a damaged chunk is an InvalidInputError.

    Raises
    ------
    StoreError
        A chunk takes more than all memory.
    """
    require_bounded_chunks(x, "X")
    chunks: da.Array = da.from_array(_Chunks(x), chunks=x.chunks)
    return chunks


def is_frame(x: Any) -> bool:
    """Say whether x is a data frame of Dask."""
    return hasattr(x, "to_dask_array") and hasattr(x, "columns")


def as_asked(model: Any, x: Any, placed: da.Array) -> Any:
    """Return the map of x, lazy, or with the index of a data frame where pandas is asked for.

    scikit-learn, which names the columns, keeps the index of pandas' own data frames only.
    """
    if not is_frame(x) or _get_output_config("transform", model)["dense"] != "pandas":
        return placed
    import pandas as pd  # noqa: PLC0415 - it is there where such a data frame is

    return pd.DataFrame(placed.compute(), index=x.index.compute())


class _Chunks:
    """A Zarr array as Dask reads it."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.ndim = array.ndim

    def __getitem__(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        try:
            return np.asarray(self.array[index])
        except DAMAGE as error:
            first = ", ".join(str(part.start) for part in index)
            raise InvalidInputError(
                f"X cannot be read from ({first}) on ({error}); that chunk of the Zarr array is "
                "damaged or out of reach: restore it, or write the array again"
            ) from error

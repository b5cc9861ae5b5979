"""Data that lies in the very run that is to be replaced: it would be gone before it is read."""

from contextlib import suppress
from typing import Any

import dask.array as da
import zarr
from fsspec.core import url_to_fs
from zarr.storage import FsspecStore, LocalStore

from dasksne.errors import InvalidInputError, StoreError
from dasksne.lazy import stored_arrays
from dasksne.run import Run
from dasksne.staging import Data


def require_elsewhere(x: Data, store: Run) -> None:
    """Raise InvalidInputError where lazy data is read from a run that is to be replaced."""
    if isinstance(x, da.Array) and (_reads_opened(x, store) or _reads_stored(x, store)):
        raise InvalidInputError(
            f"X is read from {store.url}, which overwrite=True would remove before it is read; "
            "choose another path for the new run"
        )


def _reads_opened(x: da.Array, store: Run) -> bool:
    """Say whether some of it is a lazy array of the run as it was opened, named after its id."""
    run_id = None
    with suppress(StoreError):  # what cannot be opened has given nothing
        run_id = store.state.get("id")
    names = (key[0] if isinstance(key, tuple) else key for key in dict(x.__dask_graph__()))
    return run_id is not None and any(run_id in str(name) for name in names)


def _reads_stored(x: da.Array, store: Run) -> bool:
    where = url_to_fs(store.url)[1] if store.path is None else str(store.path.resolve())
    places = (_place(array) for array in stored_arrays(x))
    return any(place == where or place.startswith(f"{where}/") for place in places)


def _place(array: "zarr.Array[Any]") -> str:
    """Return the path of an array, of its file system or bucket; empty where it has none."""
    if isinstance(array.store, LocalStore):
        return str((array.store.root / array.path).resolve())
    return f"{array.store.path}/{array.path}" if isinstance(array.store, FsspecStore) else ""

"""Whether all workers reach the place that a run is kept at, found before any work.

Where they do not, X and what is made of it live in the workers' memory, and this process writes
precision, checkpoints and the map: nothing of size N^2 is kept.
"""

import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fsspec.core import url_to_fs

from dasksne.errors import StoreError
from dasksne.executor import Executor
from dasksne.plan import PStorage
from dasksne.run import Run
from dasksne.staging import scratch_folder


def blind_workers(
    executor: Executor, store: Run | None, workers: Sequence[str] | None = None
) -> list[str]:
    """Return which workers, of those given or all, do not see where a run is or will be.

    They are asked for a new file there: a folder of the same name may be on every machine. Without
    a store it is where this process keeps what it removes at the end.
    """
    if executor.shares_memory:
        return []
    store = store or Run.locate(Path(scratch_folder()) / "run.zarr")
    with _probe(store) as probe:
        return executor.blind_workers(probe, dict(store.storage_options), workers)


@contextmanager
def _probe(store: Run) -> Iterator[str]:
    """Have a file beside a store, in the nearest folder that is there; of a URL, within it."""
    folder = store.url if store.path is None else str(_nearest(store.path.parent))
    probe = f"{folder}/.dasksne-{uuid.uuid4().hex}"
    files, path = url_to_fs(probe, **dict(store.storage_options))
    try:
        files.pipe_file(path, b"")
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error}") from error
    try:
        yield probe
    finally:
        files.rm(path)


def _nearest(folder: Path) -> Path:
    while not folder.is_dir():
        folder = folder.parent
    return folder


def tell_of_blind(blind: list[str], place: str) -> None:
    """Warn where a run is kept by this process alone, as workers do not see its place."""
    if blind:
        warnings.warn(
            f"{len(blind)} workers do not see {place}, the first of them {blind[0]}: X and what is "
            "made of it live in the workers' memory, and this process alone writes there "
            "precision, checkpoints and the map",
            stacklevel=4,
        )


def require_sight(
    blind: list[str],
    place: str,
    p_storage: PStorage | str,
    *,
    keeps_p: bool,
    saves: tuple[str, ...],
) -> None:
    """Raise StoreError where workers must write to a place that some of them do not see."""
    wants = [f"p_storage={p_storage!r}"] if p_storage == "zarr" else []
    wants += [f"save={saves!r}"] if saves else []
    wants += ["a run that keeps P"] if keeps_p else []
    if blind and wants:
        raise StoreError(
            f"{len(blind)} workers do not see {place}, the first of them {blind[0]}, and "
            f"{' and '.join(wants)} needs them to; use a folder or URL that all of them and this "
            "process reach"
        )

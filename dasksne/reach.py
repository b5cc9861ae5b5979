"""Whether all workers reach the disk that a run is kept on, found before any work.

Where they do not, X and what is made of it live in the workers' memory, and this process writes
precision, checkpoints and the map: nothing of size N^2 is kept.
"""

import uuid
from pathlib import Path

from dasksne.errors import StoreError
from dasksne.executor import Executor
from dasksne.plan import PStorage


def blind_workers(executor: Executor, folder: Path | None) -> list[str]:
    """Return the addresses of the workers that do not see a folder of this machine.

    They are asked for a new file there: a folder of the same name may be on every machine. A URL,
    which has no folder, is taken to be seen by all.
    """
    if folder is None or executor.shares_memory:
        return []
    while not folder.is_dir():
        folder = folder.parent
    probe = folder / f".dasksne-{uuid.uuid4().hex}"
    try:
        probe.touch()
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error}") from error
    try:
        return executor.blind_workers(str(probe))
    finally:
        probe.unlink()


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

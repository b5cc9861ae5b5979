"""Maps that go out, in the format that the path's suffix names."""

import csv
import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dasksne.errors import InvalidInputError
from dasksne.files.annotated import require_rows, write_h5ad
from dasksne.files.places import Labels, package
from dasksne.types import FloatArray


def write_map(path: str, embedding: FloatArray, labels: Labels | None) -> None:
    """Write a map as the path's suffix says: .npy (the map alone), .npz, .csv, .parquet or .h5ad.

    Parameters
    ----------
    path : str
        A .h5ad that is there keeps what it holds, and gains the map in its obsm.
    embedding : array of shape (N, d)
    labels : array of shape (N,) or None
    """
    require_writable(path, len(embedding))
    with _replacing(path) as partial:
        WRITERS[Path(path).suffix](partial, embedding, labels)


@contextmanager
def _replacing(path: str) -> Iterator[str]:
    """Give a place beside a file, which takes the file's place when all of it is written."""
    target, suffix = Path(path).resolve(), Path(path).suffix
    partial = target.with_name(f".partial-{uuid.uuid4().hex}{suffix}")
    replaces = target.exists()
    if replaces and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    try:
        if replaces and suffix == ".h5ad":
            shutil.copyfile(target, partial)
        yield str(partial)
        if replaces:
            shutil.copymode(target, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def require_writable(path: str, n_points: int | None = None) -> None:
    """Raise InvalidInputError where `write_map` could not write a map, of so many points if known.

    Its suffix is not known, its folder not there, or it is a .h5ad of other rows.
    """
    if Path(path).suffix not in WRITERS:
        known = ", ".join(WRITERS)
        raise InvalidInputError(f"{path} ends in no format that is known; use one of {known}")
    if not Path(path).absolute().parent.is_dir():
        raise InvalidInputError(f"{path} lies in a folder that does not exist")
    for needed in NEEDED.get(Path(path).suffix, ()):
        package(needed, path)
    if n_points is not None and Path(path).suffix == ".h5ad" and Path(path).exists():
        require_rows(path, n_points)


def _write_npy(path: str, embedding: FloatArray, _labels: Labels | None) -> None:
    np.save(path, embedding)


def _write_npz(path: str, embedding: FloatArray, labels: Labels | None) -> None:
    beside: dict[str, Any] = {} if labels is None else {"labels": labels}
    np.savez(path, embedding=embedding, **beside)


def _write_csv(path: str, embedding: FloatArray, labels: Labels | None) -> None:
    columns = {name: values.tolist() for name, values in _columns(embedding, labels).items()}
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_parquet(path: str, embedding: FloatArray, labels: Labels | None) -> None:
    package("pandas", path).DataFrame(_columns(embedding, labels)).to_parquet(path)


def _columns(embedding: FloatArray, labels: Labels | None) -> dict[str, Any]:
    # Named as SNE.get_feature_names_out names them.
    columns: dict[str, Any] = {f"sne{k}": embedding[:, k] for k in range(embedding.shape[1])}
    if labels is not None:
        columns["label"] = labels
    return columns


WRITERS: dict[str, Callable[[str, FloatArray, Labels | None], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".h5ad": write_h5ad,
}
NEEDED = {".parquet": ("pandas", "pyarrow"), ".h5ad": ("anndata",)}

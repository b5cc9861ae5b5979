"""Files in and out: data and labels that the command reads, maps that it writes."""

import csv
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import zarr

from dasksne.errors import InvalidInputError
from dasksne.types import FloatArray

Labels: TypeAlias = npt.NDArray[Any]
"""One number or text for each point, shape (N,)."""

DIGITS = "digits"
"""The name of the data set that scikit-learn carries: 1,797 images of 8 by 8 pixels."""


class Input(NamedTuple):
    """Data to be mapped."""

    X: Any
    """A NumPy array, in memory or mapped from its file, or a Zarr array; shape (N, D)."""
    labels: Labels | None


def read_input(source: str, storage_options: Mapping[str, Any] | None = None) -> Input:
    """Open the data that a path, URL or name stands for; large files are not read here.

    Parameters
    ----------
    source : str
        "digits"; a .npy file; a .npz file with one array or one named X; a .zarr path or URL with
        an array, or a group that holds X. An array `labels` beside X comes along.
    storage_options : mapping, optional
        For a URL.

    Raises
    ------
    InvalidInputError
        The name says nothing, or what is there is not a matrix of real numbers.
    OSError
        It cannot be opened.
    """
    suffix = Path(source.rstrip("/")).suffix
    if source == DIGITS:
        return _digits()
    if suffix == ".npy":
        found = Input(_map_array(source), None)
    elif suffix == ".npz":
        found = _read_npz(source)
    elif suffix == ".zarr":
        found = _open_zarr(source, storage_options)
    else:
        raise InvalidInputError(
            f"{source} is no input that is known; give '{DIGITS}', or a .npy, .npz or .zarr"
        )
    _require_matrix(source, found.X)
    if found.labels is not None:
        _require_labels(source, found.labels)
    return found


def read_labels(path: str) -> Labels:
    """Read labels from a .npy file, shape (N,)."""
    labels = np.array(_map_array(path))
    _require_labels(path, labels)
    return labels


def read_array(path: str) -> npt.NDArray[Any]:
    """Read a .npy file into memory."""
    return np.array(_map_array(path))


def write_map(path: str, embedding: FloatArray, labels: Labels | None) -> None:
    """Write a map as the path's suffix says: .npy (the map alone), .npz or .csv (with labels).

    Parameters
    ----------
    path : str
    embedding : array of shape (N, d)
    labels : array of shape (N,) or None
    """
    require_writable(path)
    WRITERS[Path(path).suffix](path, embedding, labels)


def require_writable(path: str) -> None:
    """Raise InvalidInputError unless the path's suffix names a format of `write_map`."""
    if Path(path).suffix not in WRITERS:
        known = ", ".join(WRITERS)
        raise InvalidInputError(f"{path} ends in no format that is known; use one of {known}")


def _write_npy(path: str, embedding: FloatArray, _labels: Labels | None) -> None:
    np.save(path, embedding)


def _write_npz(path: str, embedding: FloatArray, labels: Labels | None) -> None:
    beside: dict[str, Any] = {} if labels is None else {"labels": labels}
    np.savez(path, embedding=embedding, **beside)


def _write_csv(path: str, embedding: FloatArray, labels: Labels | None) -> None:
    # Named as SNE.get_feature_names_out names them.
    columns: dict[str, list[Any]] = {
        f"sne{k}": embedding[:, k].tolist() for k in range(embedding.shape[1])
    }
    if labels is not None:
        columns["label"] = labels.tolist()
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


WRITERS: dict[str, Callable[[str, FloatArray, Labels | None], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".csv": _write_csv,
}


def _digits() -> Input:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - only this input needs it

    return Input(*load_digits(return_X_y=True))


def _map_array(path: str) -> npt.NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise InvalidInputError(
            f"{path} cannot be read as a .npy file ({error}); write it with numpy.save, without "
            "Python objects"
        ) from error


def _read_npz(path: str) -> Input:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in file.files if name != "labels"]
            if "X" not in names and len(names) != 1:
                listed = ", ".join(names) or "none"
                raise InvalidInputError(
                    f"{path} holds the arrays {listed}; it must hold one, or one named X"
                )
            x = file["X" if "X" in names else names[0]]
            return Input(x, file["labels"] if "labels" in file.files else None)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(
            f"{path} cannot be read as a .npz file ({error}); write it with numpy.savez, without "
            "Python objects"
        ) from error


def _open_zarr(source: str, storage_options: Mapping[str, Any] | None) -> Input:
    options: dict[str, Any] = {"storage_options": storage_options} if storage_options else {}
    found = zarr.open(source, mode="r", **options)
    if isinstance(found, zarr.Array):
        return Input(found, None)
    x, labels = found.get("X"), found.get("labels")
    if not isinstance(x, zarr.Array):
        listed = ", ".join(sorted(found.keys())) or "nothing"
        raise InvalidInputError(f"{source} is a group that holds {listed}; it must hold X")
    return Input(x, np.asarray(labels[:]) if isinstance(labels, zarr.Array) else None)


def _require_matrix(source: str, array: Any) -> None:
    if array.ndim != 2:
        raise InvalidInputError(
            f"{source} holds an array of shape {array.shape}; it must have two dimensions, (N, D)"
        )
    if array.dtype.kind not in "biuf":
        raise InvalidInputError(f"{source} holds {array.dtype}; it must hold real numbers")


def _require_labels(source: str, labels: Labels) -> None:
    if labels.ndim != 1 or labels.dtype.kind not in "biufU":
        raise InvalidInputError(
            f"the labels of {source} have shape {labels.shape} and dtype {labels.dtype}; they must "
            "be numbers or texts, shape (N,)"
        )

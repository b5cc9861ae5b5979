"""Data and labels that come in, by the suffix of their file."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dasksne.errors import InvalidInputError
from dasksne.files.annotated import read_h5ad
from dasksne.files.arrays import read_npy, read_npz, read_zarr
from dasksne.files.places import ALL, Input, Labels, Place, Taken
from dasksne.files.tables import read_csv, read_parquet

DIGITS = "digits"
"""The name of the data set that scikit-learn carries: 1,797 images of 8 by 8 pixels."""

READERS: dict[str, Callable[[Place, Taken], Input]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".zarr": read_zarr,
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".h5ad": read_h5ad,
}
TABLES = (".csv", ".parquet")
KEYED = (".npz", ".zarr", ".h5ad")


def read_input(
    source: str, storage_options: Mapping[str, Any] | None = None, taken: Taken = ALL
) -> Input:
    """Open the data that a path, URL or name stands for.

    A .npy, what is not compressed in a .npz, and a .zarr are not read here, but by those who work
    on them; at a URL, a .zarr.

    Parameters
    ----------
    source : str
        "digits"; a .npy; a .npz with one array or one named X; a .zarr, of version 2 or 3, with an
        array, or a group that holds X; a .csv or .parquet of numbers; a .h5ad. An array `labels`
        beside X comes along.
    storage_options : mapping, optional
        For a URL.
    taken : Taken, optional
        Which columns of a table, which array, which labels.

    Raises
    ------
    InvalidInputError
        The name says nothing, the URL's protocol is not allowed, or what is there is not a matrix
        of real numbers.
    ImportError
        The format needs a package that is not there.
    OSError
        It cannot be opened.
    """
    labels_file = taken.labels if (taken.labels or "").endswith(".npy") else None
    if labels_file is not None:
        taken = taken._replace(labels=None)
    found = _read(source, storage_options, taken)
    if labels_file is not None:
        found = found._replace(labels=read_labels(labels_file))
    _require_matrix(source, found.X)
    if found.labels is not None:
        _require_labels(labels_file or source, found.labels)
        _require_one_each(labels_file or source, found.labels, found.X.shape[0])
    return found


def read_labels(path: str) -> Labels:
    """Read labels from a .npy file, shape (N,)."""
    labels = read_array(path)
    _require_labels(path, labels)
    return labels


def read_array(path: str) -> npt.NDArray[Any]:
    """Read a .npy file into memory."""
    return np.array(read_npy(Place.locate(path)).X)


def _read(source: str, storage_options: Mapping[str, Any] | None, taken: Taken) -> Input:
    if source == DIGITS:
        _require_takable(source, "", taken)
        from sklearn.datasets import load_digits  # noqa: PLC0415 - only this input needs it

        return Input(*load_digits(return_X_y=True))
    place = Place.locate(source, storage_options)
    if place.suffix not in READERS:
        raise InvalidInputError(
            f"{source} is no input that is known; give '{DIGITS}', or one of {', '.join(READERS)}"
        )
    _require_takable(source, place.suffix, taken)
    return READERS[place.suffix](place, taken)


def _require_takable(source: str, suffix: str, taken: Taken) -> None:
    """Raise InvalidInputError where something is asked of a format that does not have it."""
    for option, given, having in (
        ("--columns", taken.columns, TABLES),
        ("--key", taken.key, KEYED),
        ("--labels other than a .npy file", taken.labels, (*TABLES, *KEYED)),
    ):
        if given and suffix not in having:
            raise InvalidInputError(f"{source} has no {option}; it goes with {', '.join(having)}")


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


def _require_one_each(source: str, labels: Labels, n_points: int) -> None:
    if len(labels) != n_points:
        raise InvalidInputError(
            f"{source} has {len(labels)} labels for {n_points} points; there must be one for each"
        )

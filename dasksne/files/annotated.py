"""AnnData files, .h5ad: what is mapped comes out of X, obsm or obsp, the map goes into obsm."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dasksne.errors import InvalidInputError
from dasksne.files.places import Input, Labels, Place, Taken, as_labels, package
from dasksne.files.tables import matrix
from dasksne.types import FloatArray

MAP = "X_sne"
"""The map's name in obsm."""


def read_h5ad(place: Place, taken: Taken) -> Input:
    """Read X, or a member of obsm or obsp, dense or sparse, and a column of obs as labels."""
    read = package("anndata.io", place.source).read_elem
    with place.open() as opened, _hdf5(place, opened) as file:
        key = taken.key or "X"
        where = key if key == "X" or key.startswith("obsp/") else f"obsm/{key}"
        if where not in file:
            graphs = [f"obsp/{name}" for name in file.get("obsp", ())]
            members = [*(["X"] if "X" in file else []), *file.get("obsm", ()), *graphs]
            if not members:
                raise ValueError("it holds neither X nor obsm nor obsp")
            raise InvalidInputError(
                f"{place.source} holds {', '.join(members)}; choose one of them with --key"
            )
        x = read(file[where])
        labels = None
        if taken.labels is not None:
            columns = list(file["obs"].attrs["column-order"])
            if taken.labels not in columns:
                raise InvalidInputError(
                    f"{place.source} has no column {taken.labels!r} in obs; it has "
                    f"{', '.join(columns) or 'none'}"
                )
            labels = as_labels(read(file["obs"][taken.labels]), place.source)
    return Input(matrix(x, place.source) if hasattr(x, "columns") else x, labels)


def write_h5ad(path: str, embedding: FloatArray, labels: Labels | None) -> None:
    """Add a map to the obsm of a .h5ad that is there, or make one that holds it alone."""
    if not Path(path).exists():
        anndata, pandas = package("anndata", path), package("pandas", path)
        obs = pandas.DataFrame(index=[str(row) for row in range(len(embedding))])
        if labels is not None:
            obs["label"] = pandas.Categorical(labels) if labels.dtype.kind == "U" else labels
        anndata.AnnData(obs=obs, obsm={MAP: np.asarray(embedding)}).write_h5ad(path)
        return
    write = package("anndata.io", path).write_elem
    with Path(path).open("r+b") as opened, _hdf5(Place.locate(path), opened, "r+") as file:
        write(file.require_group("obsm"), MAP, np.asarray(embedding))


def require_rows(path: str, n_points: int) -> None:
    """Raise InvalidInputError unless a .h5ad has a row for each point of a map."""
    read = package("anndata.io", path).read_elem
    place = Place.locate(path)
    with place.open() as opened, _hdf5(place, opened) as file:
        obs = file["obs"]
        n_rows = len(read(obs[obs.attrs["_index"]]))
    if n_rows != n_points:
        raise InvalidInputError(
            f"{path} has {n_rows} rows, and the map {n_points}; give the file that was "
            "mapped, or a name that is free"
        )


@contextmanager
def _hdf5(place: Place, opened: Any, mode: str = "r") -> Iterator[Any]:
    h5py = package("h5py", place.source)
    with (
        place.reading("write it with AnnData.write_h5ad", OSError, KeyError),
        h5py.File(opened, mode) as file,
    ):
        yield file

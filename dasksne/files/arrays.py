"""Arrays in files: .npy and .npz, mapped where that can be, and Zarr."""

import struct
import zipfile
import zlib
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse
import zarr

from dasksne.bounds import require_bounded_chunks, require_bounded_rows
from dasksne.errors import InvalidInputError
from dasksne.files.places import ALL, Input, Labels, Place, Taken

LOCAL_HEADER = struct.Struct("<26xHH")
"""What precedes a member of a ZIP file, to the lengths of its name and of what follows that."""
SPARSE_MEMBERS = {"format", "shape", "data"}
"""Of what scipy.sparse.save_npz writes."""


def read_npy(place: Place, _taken: Taken = ALL) -> Input:
    """Map a .npy file, or read it from a URL."""
    with place.reading("write it with numpy.save, without Python objects"):
        if place.path is not None:
            return Input(np.lib.format.open_memmap(place.path, mode="r"), None)
        with place.open() as file:
            return Input(np.lib.format.read_array(file, allow_pickle=False), None)


def read_npz(place: Place, taken: Taken) -> Input:
    """Read a .npz file; what is not compressed in it is mapped. One of scipy.sparse is whole."""
    with (
        place.reading(
            "write it with numpy.savez, without Python objects", zipfile.BadZipFile, zlib.error
        ),
        place.open() as file,
        np.lib.npyio.NpzFile(file, allow_pickle=False) as members,
    ):
        if taken.key is None and set(members.files) >= SPARSE_MEMBERS:
            _labels(place, taken, [])  # it has none
            file.seek(0)
            return Input(scipy.sparse.load_npz(file), None)
        name = _chosen(place, taken, members.files)
        labels = _labels(place, taken, members.files)
        mapped = None if place.path is None else _map_member(place, members.zip, f"{name}.npy")
        return Input(
            members[name] if mapped is None else mapped,
            None if labels is None else members[labels],
        )


def read_zarr(place: Place, taken: Taken) -> Input:
    """Open a Zarr array, of version 2 or 3, or one of a group; nothing large is read."""
    options = {"storage_options": dict(place.storage_options)} if place.storage_options else {}
    with place.reading("write it with zarr.save_array", KeyError, TypeError):
        found = zarr.open(place.source, mode="r", **options)  # type: ignore[arg-type]
        if isinstance(found, zarr.Array):
            return Input(found, None)
        names = sorted(found.keys())
        if taken.key is not None and taken.key not in names and taken.key in found:
            names.append(taken.key)  # a path below the group, such as obsm/X_pca
        x = found[_chosen(place, taken, names)]
        labels = _labels(place, taken, names)
        if not isinstance(x, zarr.Array):
            raise InvalidInputError(f"{place.source}: {x.path} is a group; give one of its arrays")
        return Input(x, None if labels is None else _read_labels(place, found[labels]))


def _read_labels(place: Place, labels: Any) -> Labels:
    """Read the labels of a Zarr group, whose description may promise more than memory holds."""
    if not isinstance(labels, zarr.Array):
        raise InvalidInputError(f"{place.source}: {labels.path} is a group; labels are an array")
    name = f"{labels.path} of {place.source}"
    require_bounded_chunks(labels, name)
    require_bounded_rows(labels, name)
    return np.asarray(labels)


def _chosen(place: Place, taken: Taken, names: list[str]) -> str:
    """Return the name of X: what is asked for, else X, else the only array."""
    others = [name for name in names if name != _labels(place, taken, names)]
    wanted = taken.key or "X"
    if wanted in others:
        return wanted
    if taken.key is None and len(others) == 1 and place.suffix == ".npz":
        return others[0]
    listed = ", ".join(names) or "nothing"
    if taken.key is not None:
        raise InvalidInputError(f"{place.source} holds {listed}; it has no {taken.key}")
    raise InvalidInputError(f"{place.source} holds {listed}; choose one with --key, or name it X")


def _labels(place: Place, taken: Taken, names: list[str]) -> str | None:
    """Return the name of the array with the labels, if there is one."""
    if taken.labels is not None and taken.labels not in names:
        listed = ", ".join(names) or "nothing"
        raise InvalidInputError(f"{place.source} holds {listed}; it has no {taken.labels}")
    return taken.labels or ("labels" if "labels" in names else None)


def _map_member(place: Place, archive: Any, name: str) -> npt.NDArray[Any] | None:
    """Map an array of a .npz file from its place there; None where it is compressed."""
    assert place.path is not None  # noqa: S101 - only files are mapped
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED:
        return None
    with place.path.open("rb") as file:
        file.seek(member.header_offset)
        skipped = sum(LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size)))
        file.seek(skipped, 1)
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else (np.lib.format.read_array_header_2_0)
        )
        shape, fortran_order, dtype = read(file)
        if dtype.hasobject or not np.prod(shape):
            return None
        order: Literal["F", "C"] = "F" if fortran_order else "C"
        at = file.tell()
    mapped: npt.NDArray[Any] = np.memmap(
        place.path, dtype, mode="r", offset=at, shape=shape, order=order
    )
    return mapped

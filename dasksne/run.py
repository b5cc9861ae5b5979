"""The run on disk: one Zarr group that holds all that a run needs and all that it found.

    X            (N, D)   the data, as given, or as it was prepared; of sparse affinities a
                          group, as of a sparse P, with all rows in its block 0
    start, sigma          options that are arrays
    sample_weight (N,)    how often each point counts, where not once each; all p are then those of
                  one copy of a point picking one copy of another
    preparation/ mean (D,), scale (D,) and components (D, K), where X was prepared by them; raw is
                  what was given, until that is done
    precision    (N,)     beta_i, in units of 1 / distance^2; distances here are between points
                          divided by two to the attribute `exponent`, 0 for most data
    nearest      (N,)     the smallest squared distance d_ik, k != i
    normaliser   (N,)     log sum_{k != i} exp(-beta_i (d_ik - nearest_i))
    entropy      (N,)     of row i of P, in nats
    cutoff       (N,)     squared distance up to which entries of P are kept
    dropped      (N,)     mass of the entries that are not
    kept         (N,)     how many are; written last: a row block that has it is finished
    P            (N, N)   p_{j|i}, in row blocks; where tails are dropped, a group with data,
                          indices and indptr (CSR) for each row block, by its first row
    S            (N, N)   P + P^T, while the run needs it
    distances, Q (N, N)   on request
    embedding    (N, d)
    history/     one array a column
    checkpoints/ one group a checkpoint
    labels       (N,)     of the points, for pictures; of texts, places in the attribute label_names
    attributes/           an empty group with a copy of the attributes

Arrays carry checksums, those of a checkpoint one together, and are filled with what no entry is,
such as NaN, so that neither a flipped bit nor a missing chunk passes for data. The attributes hold
everything else, as JSON, with a checksum of their own.
"""

import os
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import zarr
from fsspec.core import url_to_fs
from zarr.codecs import Crc32cCodec, ZstdCodec

from dasksne.bounds import require_bounded_chunks, require_bounded_rows
from dasksne.checksums import CHECKSUM, checksum, sealed, unsealed
from dasksne.damage import fill_value, is_fill, reading
from dasksne.errors import DamageError, StoreError
from dasksne.types import FloatArray

FORMAT = 6
Codecs: TypeAlias = tuple[ZstdCodec | Crc32cCodec, ...]
COMPRESSED: Codecs = (ZstdCodec(level=0, checksum=True),)
CHECKED: Codecs = (Crc32cCodec(),)
PLAIN: Codecs = ()
"""Codecs of an array; what has none is checked by other means."""
DELETING = ".deleting"
"""How the name of a folder ends while it is deleted."""
PARTIAL = ".partial"
"""How the name of a file ends while Zarr writes it."""
ATTRIBUTE = "dasksne"
COPY = "attributes"
"""Of the attributes, written before they are: one of the two is always whole."""
PROTOCOLS = ("file", "s3", "gs", "gcs", "az", "abfs", "abfss")


@dataclass(frozen=True)
class Run:
    """A picklable handle on a run; it holds a URL, not an open file."""

    url: str
    storage_options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def locate(cls, store: str | Path, storage_options: Mapping[str, Any] | None = None) -> Self:
        """Return the handle for a path or URL, which need not exist.

        Raises
        ------
        StoreError
            The URL's protocol is not one of `PROTOCOLS`.
        """
        text = str(store)
        protocol, separator, rest = text.partition("://")
        if not separator:
            text = str(Path(text).expanduser().absolute())
        elif protocol not in PROTOCOLS or "::" in text:
            raise StoreError(
                f"store {text!r} is not a path or a URL of one of the protocols "
                f"{', '.join(PROTOCOLS)}"
            )
        elif protocol == "file":
            text = str(Path(rest).absolute())
        return cls(text, tuple(sorted((storage_options or {}).items())))

    @property
    def path(self) -> Path | None:
        """The folder on this machine's disks; None for a URL."""
        return None if "://" in self.url else Path(self.url)

    def create(self, *, overwrite: bool, difference: str = "") -> None:
        """Make the run's group, empty; who calls has locked it.

        Parameters
        ----------
        overwrite : bool
            Whether a run that is there is replaced; one that ended before it had its data is, but
            not at a URL, where nothing tells it from one that is storing its data.
        difference : str
            In what it differs from the one to be made, for the error.

        Raises
        ------
        StoreError
            Something is there already, or it cannot be written.
        """
        if self.holds_a_run():
            if not (overwrite or self.is_stillborn()):
                raise StoreError(
                    f"{self.url} holds a run already{difference}; go on with it by "
                    "dasksne.resume(path) or "
                    "`dasksne resume`, replace it with overwrite=True, or choose another path"
                )
            self.delete()
        elif self._is_taken():
            raise StoreError(f"{self.url} exists and is not a dasksne run; choose another path")
        elif self.path is not None:  # a deletion may have been cut short
            shutil.rmtree(_doomed(self.path), ignore_errors=True)
        try:
            zarr.create_group(
                self.url,
                attributes={ATTRIBUTE: sealed({"format": FORMAT, "status": "created"})},
                **self._options(),
            )
        except OSError as error:
            raise StoreError(f"{self.url} cannot be written: {error}") from error

    def holds_a_run(self) -> bool:
        """Say whether a dasksne run is there, finished or not.

        Raises
        ------
        StoreError
            The place cannot be read now.
        """
        for path in ("", COPY):
            with suppress(DamageError):  # nothing, or something else
                if ATTRIBUTE in self.group(path=path).attrs:
                    return True
        return False

    def require_same(self, run_id: str | None) -> None:
        """Raise StoreError where the run with an id was replaced by another one."""
        if self.state.get("id") != run_id:
            raise StoreError(
                f"the run at {self.url} was replaced by another one; dasksne.resume(path) reads "
                "that, and a fit with another store= keeps both"
            )

    def is_stillborn(self) -> bool:
        """Say whether a run that is locked ended before its data was stored: nothing goes on."""
        return self.path is not None and self.state["status"] == "created"

    def require(self) -> None:
        """Raise StoreError unless a run of a known format is there."""
        if not self.holds_a_run():
            raise StoreError(f"{self.url} is not a dasksne run")
        found = self.state["format"]
        if found != FORMAT:
            raise StoreError(
                f"{self.url} has run format {found}; this version of dasksne reads {FORMAT}"
            )

    def _is_taken(self) -> bool:
        if self.path is None:
            try:
                zarr.open(self.url, mode="r", **self._options())
            except FileNotFoundError:
                return False
            except ValueError:
                return True
            return True
        if not self.path.is_dir():
            return self.path.exists()
        # A process that was killed while it made a run may have left the first file half written.
        return any(not there.match(f"zarr.*{PARTIAL}") for there in self.path.iterdir())

    def _options(self) -> dict[str, Any]:
        return {"storage_options": dict(self.storage_options)} if self.storage_options else {}

    def group(self, mode: str = "r", path: str = "") -> zarr.Group:
        """Open the run's group, or one in it; raise as `array` does."""
        with reading(f"{path or 'zarr.json'} of {self.url}"):
            return zarr.open_group(self.url, path=path, mode=mode, **self._options())  # type: ignore[arg-type]

    def delete(self, name: str = "") -> None:
        """Remove an array or group, or the whole run; nothing happens if it is not there."""
        if self.path is not None:
            # Renamed first: a deletion that is cut short leaves nothing that could be read.
            target = self.path / name if name else self.path
            if target.exists():
                doomed = _doomed(target)
                shutil.rmtree(doomed, ignore_errors=True)
                target.rename(doomed)
                shutil.rmtree(doomed)
        elif name:
            del self.group("r+")[name]
        else:
            files, path = url_to_fs(self.url, **dict(self.storage_options))
            if files.exists(path):
                files.rm(path, recursive=True)

    def tidy(self) -> None:
        """Remove what processes that were killed have left half written or half deleted.

        Who calls has locked the run; at a URL there is no lock, and no such leftover.
        """
        if self.path is None:
            return
        found = [path for path in self.path.rglob(".*") if path.name.endswith(DELETING)]
        for path in (_doomed(self.path), *found):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.path.rglob(f"*{PARTIAL}"):
            path.unlink(missing_ok=True)

    @property
    def state(self) -> dict[str, Any]:
        """What the run's attributes say; they are restored from their copy where they are damaged.

        Raises
        ------
        DamageError
            The copy is, too.
        """
        try:
            return self._attributes("")
        except DamageError as damage:
            try:
                copied = self._attributes(COPY)
            except DamageError:
                anew = "and their copy is no better; start anew from the data with overwrite=True"
                raise DamageError(f"{damage}, {anew}") from damage
            files, path = url_to_fs(self.url, **dict(self.storage_options))
            with suppress(OSError):  # where nothing can be written, it is read from the copy
                files.copy(f"{path}/{COPY}/zarr.json", f"{path}/zarr.json")
            warnings.warn(f"{damage}; the copy of them was used", stacklevel=2)
            return copied

    def _attributes(self, path: str) -> dict[str, Any]:
        group = self.group(path=path)
        with reading(f"the attributes of {self.url}"):
            kept: Any = group.attrs[ATTRIBUTE]
            if CHECKSUM not in kept and kept["format"] != FORMAT:
                return dict(kept)  # of an earlier one
            return unsealed(kept)

    def update(self, **values: Any) -> None:
        """Change the attributes in a single write: none is seen without the others."""
        given = sealed({**self.state, **values})
        attributes = {ATTRIBUTE: given}
        zarr.create_group(
            self.url, path=COPY, overwrite=True, attributes=attributes, **self._options()
        )
        self.sync(COPY)  # of which one is always whole, also should the machine die
        self.group("r+").attrs[ATTRIBUTE] = given
        if self.path is not None:
            _sync(self.path / "zarr.json")

    def sync(self, name: str) -> None:
        """Wait until the disk holds a group: a machine that dies loses what is only in its memory.

        A bucket holds what it has accepted.
        """
        if self.path is not None:
            for path in (self.path / name).rglob("*"):
                if path.is_file():
                    _sync(path)

    def has(self, name: str) -> bool:
        """Say whether an array or group is there; raise as `array` does where that is not sure."""
        files, path = url_to_fs(self.url, **dict(self.storage_options))
        with reading(f"{name} of {self.url}"):
            try:  # Zarr takes some descriptions that make no sense for none
                files.cat_file(f"{path}/{name}/zarr.json")
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    def members(self, name: str) -> list[str]:
        """Return the names of what a group holds."""
        group = self.group(path=name)
        with reading(f"{name} of {self.url}"):
            return sorted(group.keys())

    def create_array(
        self,
        name: str,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: Any = np.float64,
        *,
        codecs: Codecs = COMPRESSED,
    ) -> None:
        """Add an empty array."""
        dtype = np.dtype(dtype)
        chunks = tuple(max(1, min(c, s)) for c, s in zip(chunks, shape, strict=True))
        self.group("r+").create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            attributes={CHECKSUM: checksum([shape, chunks, dtype.name])},
            compressors=codecs or None,
            fill_value=fill_value(dtype),
            overwrite=True,
            config={"write_empty_chunks": True},
        )

    def array(self, name: str, mode: str = "r") -> "zarr.Array[Any]":
        """Open an array.

        Raises
        ------
        DamageError
            It is not there, or its description makes no sense.
        StoreError
            It cannot be read now, or its chunks take more than all memory.
        """
        with reading(f"{name} of {self.url}"):
            array = zarr.open_array(
                self.url,
                path=name,
                mode=mode,
                config={"write_empty_chunks": True},
                **self._options(),
            )
            if array.attrs[CHECKSUM] != checksum([array.shape, array.chunks, array.dtype.name]):
                raise ValueError("its description is not what was written")
        require_bounded_chunks(array, f"{name} of {self.url}")
        return array

    def write(self, name: str, rows: slice, values: "npt.NDArray[Any]") -> None:
        """Write rows of an array; two writers must not share a chunk."""
        self.array(name, "r+")[rows] = values

    def read(self, name: str, rows: slice = slice(None)) -> FloatArray:
        """Read rows of an array; what is missing of it is not told from what was not written yet.

        Raises
        ------
        DamageError
            A chunk is not what was written.
        StoreError
            They cannot be read now, or they take more than all memory.
        """
        return _read_rows(self.array(name), self._named(name, rows), rows)

    def _named(self, name: str, rows: slice) -> str:
        where = "" if rows == slice(None) else f", rows {rows.start} to {rows.stop}"
        return f"{name} of {self.url}{where}"

    def read_whole(self, name: str, rows: slice = slice(None)) -> "npt.NDArray[Any]":
        """Read rows of an array, from the first of a chunk; all of its chunks must be sound.

        Raises
        ------
        DamageError
            A chunk is missing, or is not what was written.
        StoreError
            They cannot be read now, or they take more than all memory.
        """
        array = self.array(name)
        values = _read_rows(array, self._named(name, rows), rows)
        firsts = values[tuple(slice(None, None, size) for size in array.chunks)]
        if np.any(is_fill(firsts)):
            raise DamageError(f"{self._named(name, rows)}: a chunk is missing")
        return values


def _sync(path: Path) -> None:
    """Wait until the disk holds a file; with a new one goes, on journalling systems, its name."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _doomed(path: Path) -> Path:
    """Return the name that a folder has while it is deleted."""
    return path.with_name(f".{path.name}{DELETING}")


def _read_rows(array: "zarr.Array[Any]", what: str, rows: slice) -> "npt.NDArray[Any]":
    require_bounded_rows(array, what, rows)
    with reading(what):
        return np.asarray(array[rows])

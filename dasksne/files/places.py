"""Where files are, on a disk or at a URL, and what is looked for in one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import fsspec
import numpy as np
import numpy.typing as npt

from dasksne.errors import InvalidInputError
from dasksne.run import PROTOCOLS

Labels: TypeAlias = npt.NDArray[Any]
"""One number or text for each point, shape (N,)."""

READABLE = (*PROTOCOLS, "http", "https", "memory")
"""Protocols that data is read from; a run is written by fewer."""


class Input(NamedTuple):
    """Data to be mapped."""

    X: Any
    """A NumPy array, in memory or mapped from its file, a sparse one, or a Zarr array; (N, D)."""
    labels: Labels | None


class Taken(NamedTuple):
    """What is taken of a file that holds more than one matrix."""

    columns: tuple[str, ...] = ()
    """Names in a table; all but the labels where there are none."""
    key: str | None = None
    """Name of an array, or of a member of obsm or, as obsp/NAME, of obsp."""
    labels: str | None = None
    """Name of the column or array with the labels."""


ALL = Taken()
"""What a file holds by itself."""


class Place(NamedTuple):
    """A file or a Zarr group, by path or URL."""

    source: str
    storage_options: Mapping[str, Any]

    @classmethod
    def locate(cls, source: str, storage_options: Mapping[str, Any] | None = None) -> "Place":
        """Return the place; raise InvalidInputError where its protocol is not allowed."""
        protocol, separator, _ = source.partition("://")
        if separator and (protocol not in READABLE or "::" in source):
            raise InvalidInputError(
                f"{source} is not a path or a URL of one of the protocols {', '.join(READABLE)}"
            )
        return cls(source, storage_options or {})

    @property
    def path(self) -> Path | None:
        """The file on this machine's disks; None for a URL."""
        return None if "://" in self.source else Path(self.source)

    @property
    def suffix(self) -> str:
        """What the name ends in, such as .npy."""
        return Path(self.source.rstrip("/")).suffix

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file to be read."""
        if self.path is not None:
            with self.path.open("rb") as file:
                yield file
            return
        try:
            remote = fsspec.open(self.source, "rb", **self.storage_options).open()
        except ImportError as error:
            raise ImportError(f"{self.source} needs a package: {error}") from error
        except OSError as error:
            raise InvalidInputError(
                f"{self.source} cannot be opened ({type(error).__name__}: {error}); look at the "
                "address and at --storage-options"
            ) from error
        with remote as file:
            yield file

    @contextmanager
    def reading(self, remedy: str, *errors: type[Exception]) -> Iterator[None]:
        """Name the file in what a library says of it, and what to do."""
        kinds: tuple[type[Exception], ...] = (ValueError, EOFError, *errors)
        try:
            yield
        except kinds as error:
            said_already = isinstance(error, InvalidInputError)
            if said_already or (isinstance(error, OSError) and error.filename):
                raise  # the latter is not there or not to be opened, and names the file itself
            said = " ".join(str(error).split()) or type(error).__name__
            raise InvalidInputError(
                f"{self.source} cannot be read as a {self.suffix} ({said}); {remedy}"
            ) from error


def package(name: str, source: str) -> Any:
    """Import what a format needs, or say what to install."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f'{source} needs {name.partition(".")[0]}; pip install "dasksne[files]"'
        ) from error


def as_labels(values: Any, source: str) -> Labels:
    """Return a column as labels: numbers as they are, anything else as texts, empty if missing."""
    series = package("pandas", source).Series(values)
    if series.dtype.kind in "biuf":
        return np.asarray(series.to_numpy())
    texts = series.astype(object).where(series.notna(), "")
    return np.array([str(text) for text in texts], dtype=str)

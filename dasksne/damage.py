"""What an error of reading proves: that what is read is damaged, or only that it was not read.

What is damaged is made again. An error that may pass, such as too many open files or a network that
is away, must cost nothing that is sound.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from dasksne.errors import DamageError, DasksneError, StoreError

KINDS = (ValueError, LookupError, TypeError)
"""What Zarr raises of chunks and descriptions that make no sense."""
MISSING = FileNotFoundError | NotADirectoryError
CODEC = "Zstd"
"""How the RuntimeError of the codec begins; another may tell of a machine with no more to give."""


def is_damage(error: Exception) -> bool:
    """Say whether an error shows that what was read is not what was written.

    Examples
    --------
    >>> is_damage(ValueError("a checksum")), is_damage(PermissionError("a file"))
    (True, False)
    """
    if isinstance(error, OSError):  # some are of two kinds, such as that of a bad certificate
        return isinstance(error, MISSING | DamageError)
    if isinstance(error, RuntimeError):
        return str(error).startswith(CODEC)
    return isinstance(error, KINDS)


def fill_value(dtype: np.dtype[Any]) -> float:
    """Return what a missing chunk reads as: nothing that an array of this package begins with."""
    return np.nan if dtype.kind == "f" else -1 if dtype.kind == "i" else 0


def is_fill(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Say which values are those of a missing chunk."""
    fill = fill_value(values.dtype)
    found: npt.NDArray[np.bool_] = np.isnan(values) if np.isnan(fill) else values == fill
    return found


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Name what is read in what goes wrong with it.

    Raises
    ------
    DamageError
        It is not there, or not what was written.
    StoreError
        It cannot be read now; nothing is wrong with it, as far as that is known.
    """
    try:
        yield
    except (DasksneError, ImportError, MemoryError):
        raise
    except Exception as error:
        if is_damage(error):
            raise DamageError(f"{what}: {error}") from error
        raise StoreError(
            f"{what} cannot be read now: {str(error) or type(error).__name__}"
        ) from error

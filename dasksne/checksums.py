"""Checksums of what Zarr has none for: attributes, and arrays that are one only together."""

import json
from collections.abc import Mapping
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

CHECKSUM = "crc32c"
"""Among the values that it is of."""


def checksum(plain: Any, arrays: Mapping[str, npt.NDArray[Any]] | None = None) -> int:
    """Return the CRC-32C of plain values, as JSON has them, and of arrays.

    Examples
    --------
    >>> checksum({"a": 1, "b": (2.5,)}) == checksum({"b": [2.5], "a": 1})
    True
    """
    found: int = google_crc32c.value(json.dumps(plain, sort_keys=True).encode())
    for key, array in sorted((arrays or {}).items()):
        found = google_crc32c.extend(found, f"{key} {array.dtype} {array.shape}".encode())
        found = google_crc32c.extend(found, np.ascontiguousarray(array))
    return found


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values with their checksum.

    Examples
    --------
    >>> unsealed(sealed({"a": 1}))
    {'a': 1}
    """
    return {**values, CHECKSUM: checksum(values)}


def unsealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was sealed.

    Raises
    ------
    ValueError
        It is not what it was.
    """
    plain = {name: value for name, value in values.items() if name != CHECKSUM}
    if values.get(CHECKSUM) != checksum(plain):
        raise ValueError("the checksum of the attributes differs")
    return plain

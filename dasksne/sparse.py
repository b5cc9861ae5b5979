"""Sparse matrices in a run: data, indices and indptr (CSR) of each row block."""

from typing import Any

from scipy.sparse import csr_array

from dasksne.errors import DamageError
from dasksne.run import COMPRESSED, Codecs, Run
from dasksne.types import FloatArray, IntArray

SPARSE = ("data", "indices", "indptr")
SPARSE_CHUNK = 1 << 20


def write_sparse(
    run: Run,
    name: str,
    first_row: int,
    data: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    codecs: Codecs = COMPRESSED,
) -> None:
    """Write the rows of a row block that starts at first_row, as a CSR matrix."""
    for part, values in zip(SPARSE, (data, indices, indptr), strict=True):
        path = f"{name}/{first_row}/{part}"
        run.create_array(path, values.shape, (SPARSE_CHUNK,), values.dtype, codecs=codecs)
        if values.size:
            run.write(path, slice(None), values)


def read_sparse(run: Run, name: str, first_row: int) -> tuple[FloatArray, IntArray, IntArray]:
    """Return data, indices and indptr of a row block."""
    data, indices, indptr = (run.read_whole(f"{name}/{first_row}/{part}") for part in SPARSE)
    return data, indices, indptr


def sparse_matrix(parts: tuple[Any, Any, Any], shape: tuple[int, int], name: str) -> csr_array:
    """Return data, indices and indptr of a store as a matrix.

    Raises
    ------
    DamageError
        They are none of such a shape: what works on one trusts its indices.
    """
    try:
        matrix = csr_array(parts, shape=shape)
        matrix.check_format(full_check=True)
        if not matrix.has_canonical_format:
            raise ValueError("the columns of a row must ascend")  # noqa: TRY301 - said below
    except ValueError as error:
        raise DamageError(f"{name} is no sparse matrix of shape {shape}: {error}") from error
    return matrix

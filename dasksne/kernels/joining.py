"""Rows of a sparse S = P + P^T from the rows of a sparse P.

Once p_{j|i} of all rows are there, p_{i|j} need not be computed again from distances: they are
sorted into the rows that they belong to. Costs what P's entries cost, not what all pairs do.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dasksne.kernels.compiled import strict
from dasksne.types import FloatArray, IntArray


class SparseRows(NamedTuple):
    """Consecutive rows of a matrix, as CSR: indices ascend in each row."""

    data: FloatArray
    indices: IntArray
    indptr: IntArray


def join(blocks: Sequence[SparseRows], start: int, stop: int) -> SparseRows:
    """Return rows of S = P + P^T.

    Parameters
    ----------
    blocks : sequence of SparseRows
        All rows of P, in order, float64 and int32.
    start, stop : int
        Which rows of S.

    Examples
    --------
    >>> import numpy as np
    >>> P = [SparseRows(np.array([1.0]), np.array([1], np.int32), np.array([0, 1])),
    ...      SparseRows(np.array([1.0]), np.array([2], np.int32), np.array([0, 1])),
    ...      SparseRows(np.array([0.5, 0.5]), np.array([0, 1], np.int32), np.array([0, 2]))]
    >>> S = join(P, 1, 3)  # the last two rows
    >>> S.indptr.tolist(), S.indices.tolist(), S.data.tolist()
    ([0, 2, 4], [0, 2, 0, 1], [1.0, 1.5, 0.5, 1.5])
    """
    ends = np.cumsum([block.indptr.size - 1 for block in blocks])
    incoming = _transposed(blocks, ends, start, stop)
    own = _rows_between(blocks, ends, start, stop)
    total = own.data.size + incoming.data.size
    indptr = np.empty(stop - start + 1, dtype=np.int64)
    data, indices = np.empty(total), np.empty(total, dtype=np.int32)
    _merge(*own, *incoming, data, indices, indptr)
    return SparseRows(data[: indptr[-1]], indices[: indptr[-1]], indptr)


def _transposed(blocks: Sequence[SparseRows], ends: IntArray, start: int, stop: int) -> SparseRows:
    """Return the rows of P^T: what other rows of P have in these columns."""
    counts = np.zeros(stop - start, dtype=np.int64)
    for block in blocks:
        _count(block.indices, block.indptr, start, counts)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    data, indices = np.empty(indptr[-1]), np.empty(indptr[-1], dtype=np.int32)
    at = indptr[:-1].copy()
    for block, end in zip(blocks, ends, strict=True):
        _scatter(*block, end - block.indptr.size + 1, start, at, data, indices)
    return SparseRows(data, indices, indptr)


def _rows_between(
    blocks: Sequence[SparseRows], ends: IntArray, start: int, stop: int
) -> SparseRows:
    """Return rows of P."""
    parts = []
    for block, end in zip(blocks, ends, strict=True):
        first = end - block.indptr.size + 1
        low, high = max(start, first) - first, min(stop, end) - first
        if low < high:
            parts.append((block, block.indptr[low : high + 1]))
    sizes = np.concatenate([np.diff(pointers) for _, pointers in parts])
    spans = [slice(pointers[0], pointers[-1]) for _, pointers in parts]
    return SparseRows(
        np.concatenate([block.data[span] for (block, _), span in zip(parts, spans, strict=True)]),
        np.concatenate(
            [block.indices[span] for (block, _), span in zip(parts, spans, strict=True)]
        ),
        np.concatenate([[0], np.cumsum(sizes)]),
    )


@strict
def _count(indices, indptr, start, counts):  # type: ignore[no-untyped-def]
    for row in range(indptr.size - 1):
        first, last = _columns_between(indices, indptr[row], indptr[row + 1], start, counts.size)
        for k in range(first, last):
            counts[indices[k] - start] += 1


@strict
def _scatter(data, indices, indptr, first_row, start, at, out, columns):  # type: ignore[no-untyped-def]
    """Append the entries of P's rows to those of P^T's, and move where the next ones go."""
    for row in range(indptr.size - 1):
        first, last = _columns_between(indices, indptr[row], indptr[row + 1], start, at.size)
        for k in range(first, last):
            i = indices[k] - start
            out[at[i]] = data[k]
            columns[at[i]] = first_row + row
            at[i] += 1


@strict
def _columns_between(indices, first, last, start, count):  # type: ignore[no-untyped-def]
    """Return which entries of a row lie in so many columns from the start on."""
    low = first + np.searchsorted(indices[first:last], start)
    return low, low + np.searchsorted(indices[low:last], start + count)


@strict
def _merge(  # type: ignore[no-untyped-def]
    data, indices, indptr, other_data, other_indices, other_indptr, out, columns, pointers
):
    """Write the sum of two matrices."""
    n = 0
    pointers[0] = 0
    for row in range(indptr.size - 1):
        a, b = indptr[row], other_indptr[row]
        while a < indptr[row + 1] or b < other_indptr[row + 1]:
            left = indices[a] if a < indptr[row + 1] else np.int32(2**31 - 1)
            right = other_indices[b] if b < other_indptr[row + 1] else np.int32(2**31 - 1)
            columns[n] = min(left, right)
            value = 0.0
            if left <= right:
                value += data[a]
                a += 1
            if right <= left:
                value += other_data[b]
                b += 1
            out[n] = value
            n += 1
        pointers[row + 1] = n

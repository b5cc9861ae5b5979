"""Who is how near to whom: ranks of the points seen from each point, in two spaces.

Of the points other than i itself, the nearest to i has rank 1. Points at the same distance are
ranked by their index, as a stable sort does. All results are integers, and depend on no order of
work.

A whole row is sorted as integers: the leading bits of each distance, which order non-negative
floats as they order integers, with the index in the bits below. Where leading bits are equal the
distances themselves decide.
"""

import numpy as np

from dasksne.kernels.compiled import strict
from dasksne.slices import consecutive
from dasksne.types import FloatArray, IntArray

FEW = 32
"""Up to so many ranks of a row are counted, one pass each; for more the row is sorted."""
SORTED_AT_ONCE = 1 << 17
"""Entries, a mebibyte: they stay in the second-level cache from one pass to the next."""
OWN = np.iinfo(np.int64).max
"""The point itself comes last."""


def neighbour_ranks(a: FloatArray, b: FloatArray, first_row: int, k: int) -> IntArray:
    """Return what ranks the k nearest points of one space have in the other.

    Parameters
    ----------
    a, b : arrays of shape (r, N), float64
        Squared distances from points first_row, first_row + 1, ... to all points, in two spaces;
        not negative. The entry of a point with itself is not read.
    first_row : int
    k : int
        Below N.

    Returns
    -------
    array of shape (r, k), int64
        In column m the rank in a of the point that has rank m + 1 in b.
    """
    ranks = np.empty((len(a), k), dtype=np.int64)
    if k <= FEW:
        _counted_ranks(a, b, first_row, ranks)
        return ranks
    for rows in _parts(a):
        order_a, order_b = _order(a, first_row, rows), _order(b, first_row, rows)
        _looked_up_ranks(order_a, order_b, ranks[rows])
    return ranks


def count_larger_ranks(a: FloatArray, b: FloatArray, first_row: int, counts: IntArray) -> None:
    """Count the pairs by the larger of their ranks in two spaces.

    Summed up to K, the counts say how many of the K nearest points of each row are the same in
    both spaces, over all rows: this is all that Q_NX needs of the co-ranking matrix.

    Parameters
    ----------
    a, b : arrays of shape (r, N), float64
        As for `neighbour_ranks`.
    first_row : int
    counts : array of shape (N - 1,), int64
        In entry m the number of pairs whose larger rank is m + 1 is added.
    """
    for rows in _parts(a):
        _count(_order(a, first_row, rows), _order(b, first_row, rows), counts)


def _parts(distances: FloatArray) -> list[slice]:
    n_rows, n = distances.shape
    step = max(1, SORTED_AT_ONCE // n)
    return consecutive(slice(0, n_rows), step)


def _order(distances: FloatArray, first_row: int, rows: slice) -> IntArray:
    """Return for some rows of a panel the points from the nearest on; each ends with its own."""
    keys = np.empty((rows.stop - rows.start, distances.shape[1]), dtype=np.int64)
    n_index_bits = (keys.shape[1] - 1).bit_length()
    _pack(distances[rows].view(np.int64), first_row + rows.start, n_index_bits, keys)
    keys.sort(axis=1)
    _unpack(distances[rows], first_row + rows.start, n_index_bits, keys)
    return keys


@strict
def _pack(bits, first_row, n_index_bits, keys):  # type: ignore[no-untyped-def]
    """Write each distance's leading bits, then its index."""
    mask = ~((1 << n_index_bits) - 1)
    for i in range(bits.shape[0]):
        for j in range(bits.shape[1]):
            keys[i, j] = (bits[i, j] & mask) | j
        keys[i, first_row + i] = OWN


@strict
def _unpack(distances, first_row, n_index_bits, keys):  # type: ignore[no-untyped-def]
    """Replace sorted keys by their indices, in the order of the distances themselves."""
    mask = (1 << n_index_bits) - 1
    n_others = keys.shape[1] - 1
    for i in range(keys.shape[0]):
        start = 0
        leading = keys[i, 0] >> n_index_bits
        for r in range(n_others):
            own_leading = keys[i, r] >> n_index_bits
            keys[i, r] &= mask
            if own_leading != leading:
                if r - start > 1:
                    _sort_alike(distances[i], keys[i, start:r])
                start = r
                leading = own_leading
        _sort_alike(distances[i], keys[i, start:n_others])
        keys[i, n_others] = first_row + i


@strict
def _sort_alike(d, points):  # type: ignore[no-untyped-def]
    """Sort points of equal leading bits, given by index, by distance; stable."""
    for r in range(1, points.size):
        if d[points[r]] < d[points[r - 1]]:
            points[:] = points[np.argsort(d[points], kind="mergesort")]
            return


@strict
def _count(order_a, order_b, counts):  # type: ignore[no-untyped-def]
    n_others = counts.size
    rank = np.empty(n_others + 1, dtype=np.int32)
    for i in range(order_a.shape[0]):
        for r in range(n_others):
            rank[np.uintp(order_a[i, r])] = r
        for r in range(n_others):
            larger = max(np.int32(r), rank[np.uintp(order_b[i, r])])
            counts[np.uintp(larger)] += 1


@strict
def _looked_up_ranks(order_a, order_b, ranks):  # type: ignore[no-untyped-def]
    rank = np.empty(order_a.shape[1], dtype=np.int64)
    for i in range(order_a.shape[0]):
        for r in range(order_a.shape[1]):
            rank[order_a[i, r]] = r + 1
        for m in range(ranks.shape[1]):
            ranks[i, m] = rank[order_b[i, m]]


@strict
def _counted_ranks(a, b, first_row, ranks):  # type: ignore[no-untyped-def]
    k = ranks.shape[1]
    nearest = np.empty(k, dtype=np.int64)
    for i in range(a.shape[0]):
        own = first_row + i
        _nearest(b[i], own, nearest)
        for m in range(k):
            ranks[i, m] = _rank(a[i], own, nearest[m])


@strict
def _nearest(d, own, nearest):  # type: ignore[no-untyped-def]
    """Write the points from the nearest on; of two as near, the first comes first."""
    k = nearest.size
    n = 0
    farthest = np.inf
    for j in range(d.size):
        if (n < k or d[j] < farthest) and j != own:
            at = min(n, k - 1)
            while at > 0 and d[j] < d[nearest[at - 1]]:
                nearest[at] = nearest[at - 1]
                at -= 1
            nearest[at] = j
            n = min(n + 1, k)
            farthest = d[nearest[n - 1]]


@strict
def _rank(d, own, point):  # type: ignore[no-untyped-def]
    """Return 1 + how many others are nearer than a point, or as near and of a lower index."""
    limit = d[point]
    count = 1
    for j in range(point):
        count += 1 if d[j] <= limit else 0
    for j in range(point + 1, d.size):
        count += 1 if d[j] < limit else 0
    nearer = d[own] <= limit if own < point else d[own] < limit
    return count - 1 if nearer else count

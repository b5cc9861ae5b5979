"""Bare NumPy over all pairs of points, on threads: what the package's passes are held against."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

BLOCK_BYTES = 32 << 20
"""Of a block's products, as much as the package works on at once."""


def products(X: np.ndarray, threads: int) -> None:
    """Compute X @ X.T in float64, a block of rows after another, each in the same memory."""
    n, rows = len(X), _rows(len(X))
    transposed = np.ascontiguousarray(X.T)

    def work(starts: range) -> None:
        out = np.empty((rows, n))
        for start in starts:
            block = X[start : start + rows]
            np.matmul(block, transposed, out=out[: len(block)])

    with threadpool_limits(limits=1, user_api="blas"):
        _on_threads(work, n, rows, threads)


def exponentials(n: int, threads: int) -> None:
    """Compute np.exp of N^2 float64, a block after another, each in the same memory."""
    rows = _rows(n)
    exponents = np.linspace(-20.0, 0.0, rows * n).reshape(rows, n)

    def work(starts: range) -> None:
        out = np.empty_like(exponents)
        for start in starts:
            stop = min(rows, n - start)
            np.exp(exponents[:stop], out=out[:stop])

    _on_threads(work, n, rows, threads)


def _rows(n: int) -> int:
    return max(1, min(n, BLOCK_BYTES // (8 * n)))


def _on_threads(work: Callable[[range], None], n: int, rows: int, threads: int) -> None:
    shares = [range(k * rows, n, threads * rows) for k in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, shares))

"""The repulsion of a map, as tasks beside those of the attraction.

By Fourier sums where they cost less than all pairs: one task for a map of ordinary size, a
map-reduce over row blocks for a larger one. Grids of modes add; every other result is a task's own
rows.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from dasksne.executor import Executor, Handle
from dasksne.kernels import fourier
from dasksne.kernels import repulsion as direct
from dasksne.kernels.isolated import IsolatedRows, joined
from dasksne.kernels.repulsion import FirstPass
from dasksne.kernels.tiling import Tiling, choose_tiling
from dasksne.plan import Repulsion
from dasksne.slices import consecutive
from dasksne.types import FloatArray

FOURIER_ROWS = 500_000
"""Of a task; a smaller map has one, which saves three round trips."""

Push: TypeAlias = tuple[FloatArray, FloatArray]
"""The repulsion R, shape (n, d), and log Z, shape (n,), of n rows."""
Finish: TypeAlias = Callable[[], Handle]
"""Starts what is left to do; returns the handle of the `Push` of all rows."""


def start_repulsion(
    executor: Executor,
    y: FloatArray,
    shared: Handle,
    rows: Sequence[slice],
    method: Repulsion,
    rtol: float,
    counts: Handle | None = None,
) -> Finish:
    """Start the first tasks of the repulsion; the function returned sees the rest through.

    Parameters
    ----------
    executor : Executor
    y : array of shape (N, d), float64
        The map, finite.
    shared : Handle
        The same map, broadcast.
    rows : sequence of slice
        Of each task where it goes over all pairs.
    method : {"direct", "fourier"}
    rtol : float
        Of the Fourier sums.
    counts : Handle, optional
        How often each point counts, broadcast; once unless given.
    """
    tiling = choose_tiling(np.ascontiguousarray(y.T), rtol) if method == "fourier" else None
    if tiling is None:
        return _start_direct(executor, shared, rows, counts)
    if len(y) < FOURIER_ROWS:
        (whole,) = executor.map(_whole, [tiling], shared, rtol, counts)
        return lambda: whole
    blocks = consecutive(slice(0, len(y)), FOURIER_ROWS)
    return _start_fourier(executor, shared, blocks, tiling, rtol, counts)


def _start_direct(
    executor: Executor, shared: Handle, rows: Sequence[slice], counts: Handle | None
) -> Finish:
    handles = executor.map(_first_direct, rows, shared, counts)

    def finish() -> Handle:
        others = executor.reduce(_joined_direct, handles)
        pushes = executor.map(_second_direct, handles, shared, others, counts)
        return executor.reduce(stack_rows, pushes)

    return finish


def _start_fourier(
    executor: Executor,
    shared: Handle,
    blocks: Sequence[slice],
    tiling: Tiling,
    rtol: float,
    counts: Handle | None,
) -> Finish:
    ones = executor.map(_spread_counts, blocks, shared, tiling, counts)

    def finish() -> Handle:
        modes = executor.broadcast(_sum(executor, ones))
        handles = executor.map(_first_fourier, blocks, shared, tiling, modes, rtol, counts)
        first = [executor.result(handle) for handle in handles]
        isolated = joined([part.isolated for part in first])
        spread = executor.map(_spread_weights, first, shared, tiling)
        modes = executor.broadcast(_sum(executor, spread))
        pushes = executor.map(_second_fourier, first, shared, tiling, modes, isolated, counts)
        return executor.reduce(stack_rows, pushes)

    return finish


def stack_rows(parts: Sequence[tuple[FloatArray, ...]]) -> tuple[FloatArray, ...]:
    """Return the arrays of all tasks' rows, from those of each task."""
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def _sum(executor: Executor, handles: list[Handle]) -> Any:
    """Add results in the order of their blocks, whichever is there first; each is given up."""
    total = executor.result(handles.pop(0))
    while handles:
        total = total + executor.result(handles.pop(0))
    return total


def _whole(tiling: Tiling, y: FloatArray, rtol: float, counts: FloatArray | None) -> Push:
    return fourier.repulsion_by(tiling, np.ascontiguousarray(y.T), rtol, counts)


def _first_direct(rows: slice, y: FloatArray, counts: FloatArray | None) -> FirstPass:
    return direct.first_pass(rows, np.ascontiguousarray(y.T), counts)


def _joined_direct(first: Sequence[FirstPass]) -> tuple[FloatArray, IsolatedRows]:
    weights = np.concatenate([part.weights for part in first])
    return weights, joined([part.isolated for part in first])


def _second_direct(
    first: FirstPass,
    y: FloatArray,
    others: tuple[FloatArray, IsolatedRows],
    counts: FloatArray | None,
) -> Push:
    return direct.second_pass(first, np.ascontiguousarray(y.T), *others, counts), first.log_z


def _spread_counts(rows: slice, y: FloatArray, tiling: Tiling, counts: FloatArray | None) -> Any:
    given = np.ones(rows.stop - rows.start) if counts is None else counts[rows]
    return fourier.spread(tiling, np.ascontiguousarray(y.T), rows, given)


def _spread_weights(first: FirstPass, y: FloatArray, tiling: Tiling) -> Any:
    return fourier.spread(tiling, np.ascontiguousarray(y.T), first.rows, first.weights)


def _first_fourier(
    rows: slice,
    y: FloatArray,
    tiling: Tiling,
    modes: Any,
    rtol: float,
    counts: FloatArray | None,
) -> FirstPass:
    return fourier.first_pass(tiling, modes, np.ascontiguousarray(y.T), rows, rtol, counts)


def _second_fourier(
    first: FirstPass,
    y: FloatArray,
    tiling: Tiling,
    modes: Any,
    isolated: IsolatedRows,
    counts: FloatArray | None,
) -> Push:
    push = fourier.second_pass(tiling, modes, np.ascontiguousarray(y.T), first, isolated, counts)
    return push, first.log_z

"""The repulsion of a map, beside the attraction.

By Fourier sums where they cost less than all pairs: those of a map of ordinary size in this
process, which has nothing else to do while workers are at the attraction, and needs no trip; a
larger one by a map-reduce over row blocks. Grids of modes add; every other result is a task's own
rows.
"""

from collections.abc import Callable, Sequence
from functools import partial
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
"""Of a task; a smaller map needs none, nor its round trips."""

Push: TypeAlias = tuple[FloatArray, FloatArray]
"""The repulsion R, shape (n, d), and log Z, shape (n,), of n rows."""
Finish: TypeAlias = Callable[[], Push]
"""Sees the rest through; returns the `Push` of all rows."""
Attempt: TypeAlias = Callable[[], Push | None]
"""The same by Fourier sums; None where all pairs then cost less after all."""


def start_repulsion(
    executor: Executor,
    y: FloatArray,
    shared: Handle,
    rows: Sequence[slice],
    method: Repulsion,
    rtol: float,
    counts: FloatArray | None = None,
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
    counts : array of shape (N,), float64, optional
        How often each point counts, held by the executor; once unless given.
    """
    tiling = choose_tiling(np.ascontiguousarray(y.T), rtol) if method == "fourier" else None
    if tiling is None:
        return _start_direct(executor, shared, rows, counts)
    by_fourier: Attempt
    if len(y) < FOURIER_ROWS:
        whole = executor.aside(_fourier_repulsion, tiling, y, rtol, counts)
        by_fourier = partial(executor.result, whole)
    else:
        blocks = consecutive(slice(0, len(y)), FOURIER_ROWS)
        by_fourier = _start_fourier(executor, shared, blocks, tiling, rtol, counts)
    return lambda: by_fourier() or _start_direct(executor, shared, rows, counts)()


def _start_direct(
    executor: Executor, shared: Handle, rows: Sequence[slice], counts: FloatArray | None
) -> Finish:
    handles = executor.map(_first_direct, rows, shared, counts)

    def finish() -> Push:
        others = executor.reduce(_joined_direct, handles)
        pushes = executor.map_all(_second_direct, handles, shared, others, counts)
        return _joined(executor.result(pushes))

    return finish


def _start_fourier(
    executor: Executor,
    shared: Handle,
    blocks: Sequence[slice],
    tiling: Tiling,
    rtol: float,
    counts: FloatArray | None,
) -> Attempt:
    ones = executor.map(_spread_counts, blocks, shared, tiling, counts)

    def finish() -> Push | None:
        modes = executor.broadcast(_sum(executor, ones))
        passes = executor.map_all(_first_fourier, blocks, shared, tiling, modes, rtol, counts)
        first = executor.result(passes)
        isolated = joined([part.isolated for part in first])
        if fourier.are_too_many(isolated, blocks[-1].stop):
            return None
        spread = executor.map(_spread_weights, first, shared, tiling)
        modes = executor.broadcast(_sum(executor, spread))
        pushes = executor.map_all(_second_fourier, first, shared, tiling, modes, isolated, counts)
        return _joined(executor.result(pushes))

    return finish


def _joined(parts: Sequence[Push]) -> Push:
    """Return the push of all tasks' rows, from those of each task."""
    pushes, log_zs = zip(*parts, strict=True)
    return np.concatenate(pushes), np.concatenate(log_zs)


def _sum(executor: Executor, handles: list[Handle]) -> Any:
    """Add results in the order of their blocks, whichever is there first; each is given up."""
    total = executor.result(handles.pop(0))
    while handles:
        total = total + executor.result(handles.pop(0))
    return total


def _fourier_repulsion(
    tiling: Tiling, y: FloatArray, rtol: float, counts: FloatArray | None
) -> Push | None:
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

"""Which row blocks of a run are finished, and what calibration found of each."""

from collections.abc import Sequence

import numpy as np

from dasksne.errors import DamageError
from dasksne.kernels.calibration import Calibration
from dasksne.run import Run
from dasksne.types import FloatArray

CALIBRATION = ("precision", "nearest", "normaliser", "entropy", "cutoff", "dropped", "kept")
"""Arrays that hold the fields of a Calibration; a row block with the last one is finished."""


def create_calibration(run: Run, n_points: int, block_rows: int) -> None:
    """Add the arrays for what calibration finds, none of it found yet."""
    for name in CALIBRATION:
        run.create_array(name, (n_points,), (block_rows,))


def finish_block(run: Run, rows: slice, found: Calibration) -> None:
    """Keep what was found for a row block whose P, if any, is written."""
    for name, values in zip(CALIBRATION, found, strict=True):
        run.write(name, rows, values)


def kept_calibration(run: Run) -> Calibration:
    """Return what was found for all rows; NaN where a row block is not finished."""
    return Calibration(*(run.read(name) for name in CALIBRATION))


def finished_blocks(run: Run, blocks: Sequence[slice]) -> tuple[dict[int, Calibration], list[str]]:
    """Return what was found for each finished row block, by its first row, and the damage."""
    damage: dict[int, str] = {}
    n_points = blocks[-1].stop
    columns = [_readable(run, name, blocks, n_points, damage) for name in CALIBRATION]
    found = Calibration(*columns)
    finished: dict[int, Calibration] = {}
    for rows in blocks:
        part = Calibration(*(values[rows] for values in found))
        if rows.start in damage or np.any(np.isnan(part[-1])):
            continue
        if np.any(np.isnan(part)):
            damage[rows.start] = f"rows {rows.start} to {rows.stop}: a chunk is missing"
        else:
            finished[rows.start] = part
    return finished, list(damage.values())


def _readable(
    run: Run, name: str, blocks: Sequence[slice], n_points: int, damage: dict[int, str]
) -> FloatArray:
    """Return what can be read of an array, NaN elsewhere; add what is wrong there to damage."""
    try:
        return run.read(name)
    except DamageError:
        values = np.full(n_points, np.nan)
    for rows in blocks:
        try:
            values[rows] = run.read(name, rows)
        except DamageError as error:
            damage[rows.start] = str(error)
    return values

"""What a run kept, looked at before it is used again: damage is found, named and made good.

Chunks carry checksums, so a flipped bit or a cut file raises; a missing chunk reads as its fill
value, which no finished block begins with. Row blocks are computed again, X cannot be.
"""

import warnings

from dasksne.damage import reading
from dasksne.errors import DamageError, InvalidInputError, StoreError
from dasksne.executor import Executor
from dasksne.finished import CALIBRATION, create_calibration, finished_blocks
from dasksne.kernels.calibration import Calibration
from dasksne.plan import Plan
from dasksne.run import Run
from dasksne.settings import Settings
from dasksne.sparse import read_sparse
from dasksne.staging import look_at, look_at_array, stored_x, x_in_memory


def create_arrays(run: Run, plan: Plan, settings: Settings) -> None:
    """Add the arrays that row blocks are written to."""
    create_calibration(run, plan.n_points, plan.block_rows)
    for name in _pairwise(plan, settings):
        _create_pairwise(run, name, plan)


def remake_damaged_arrays(run: Run, plan: Plan, settings: Settings) -> None:
    """Make those of them anew that are not there as they should be, empty; say which."""
    n = plan.n_points
    columns = (n,), (min(plan.block_rows, n),)
    damaged = [name for name in CALIBRATION if not _is_intact(run, name, *columns)]
    if damaged:  # a block is finished with all of them, and so is none
        create_calibration(run, n, plan.block_rows)
    for name in _pairwise(plan, settings):
        if not _is_intact(run, name, (n, n), plan.pair_chunks, plan.dtype):
            damaged.append(name)
            _create_pairwise(run, name, plan)
    if damaged:
        warnings.warn(
            f"{', '.join(damaged)} of {run.url} cannot be read as what was written, and will be "
            "computed again",
            stacklevel=6,
        )


def _create_pairwise(run: Run, name: str, plan: Plan) -> None:
    run.create_array(name, (plan.n_points, plan.n_points), plan.pair_chunks, plan.dtype)


def _pairwise(plan: Plan, settings: Settings) -> tuple[str, ...]:
    """Return the names of the (N, N) arrays of a run."""
    return (*_dense(plan, settings), *(name for name in settings.save if name == "Q"))


def _dense(plan: Plan, settings: Settings) -> tuple[str, ...]:
    """Return the names of those that calibration writes."""
    p = ("P",) if plan.keeps_p and settings.tail_mass == 0.0 else ()
    return (*p, *(name for name in settings.save if name == "distances"))


def _is_intact(
    run: Run, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str = "float64"
) -> bool:
    try:
        array = run.array(name)
    except DamageError:
        return False
    chunks = tuple(min(c, n) for c, n in zip(chunks, shape, strict=True))
    return array.shape == shape and array.chunks == chunks and array.dtype == dtype


def sound_blocks(
    executor: Executor, run: Run, plan: Plan, settings: Settings
) -> dict[int, Calibration]:
    """Return what was found for each finished row block, by its first row, less the damaged ones.

    All that a finished block wrote is read once, beside each other as tasks.
    """
    finished, complaints = finished_blocks(run, plan.blocks)
    blocks = [rows for rows in plan.blocks if rows.start in finished]
    sparse = plan.keeps_p and settings.tail_mass > 0.0
    names = _dense(plan, settings)
    written = blocks if names or sparse else []
    handles = executor.map(_complaint, written, run, names, sparse)
    for rows, handle in zip(written, handles, strict=True):
        complaint = executor.result(handle)
        if complaint is not None:
            complaints.append(complaint)
            del finished[rows.start]
    if complaints:
        warnings.warn(
            f"{len(complaints)} of {plan.n_blocks} row blocks of {run.url} are damaged and will be "
            f"computed again: {complaints[0]}",
            stacklevel=9,
        )
    return finished


def _complaint(rows: slice, run: Run, names: tuple[str, ...], sparse: bool) -> str | None:
    """Say what is wrong with what a finished row block wrote; None where all is well."""
    try:
        for name in names:
            run.read_whole(name, rows)
        if sparse:
            read_sparse(run, "P", rows.start)
    except DamageError as error:
        return str(error)
    return None


def require_same_data(
    executor: Executor, run: Run, metric: str, fingerprint: str, *, by_workers: bool
) -> None:
    """Raise StoreError unless a run's X is what it was at the start."""
    damage = f"X in {run.url} is not what it was when the run began"
    anew = "start anew from the data with overwrite=True"
    try:
        with reading(f"X of {run.url}"):
            look = (
                look_at(executor, stored_x(run), metric)
                if by_workers
                else look_at_array(x_in_memory(run), metric)
            )
    except (DamageError, InvalidInputError) as error:
        raise StoreError(f"{damage} ({error}); {anew}") from error
    if look.fingerprint != fingerprint:
        raise StoreError(f"{damage} (its SHA-256 differs); {anew}")

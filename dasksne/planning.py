"""What a run will need where it is asked for, found before any of its work."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import dask.array as da

from dasksne.affinities import sampled_share
from dasksne.errors import InvalidInputError, ResourceError
from dasksne.executor import Executor
from dasksne.job import RANDOM_RIVALS, is_too_large_to_anneal, make_schedule
from dasksne.kernels.tiling import planned_grid_bytes
from dasksne.optimise.schedule import COARSE_TAIL_MASS
from dasksne.plan import TWO_STARTS, Plan, format_bytes, make_plan
from dasksne.preparation import prepare
from dasksne.reach import blind_workers, require_sight
from dasksne.run import Run
from dasksne.settings import Settings
from dasksne.source import ArrayRows, Source
from dasksne.staging import Data, is_graph, look_at, scratch_folder

USED_SHARE = 0.9
"""Of the memory found, what a run may plan to use."""


class Shares(NamedTuple):
    """Of the entries of P, about, that are kept."""

    kept: float
    coarse: float
    """In a coarse stage before, if there is to be one; 0 if not."""


WHOLE = Shares(1.0, 0.0)
NOTHING = Shares(0.0, 0.0)


def plan_run(
    shape: tuple[int, int],
    x_bytes: int,
    settings: Settings,
    *,
    store: Run | None,
    memory_limit: int | None,
    in_memory: bool,
    sparse: bool = False,
    mapped: bool = False,
    is_prepared: bool = False,
    shares: Shares = WHOLE,
    executor: Executor,
    blind: list[str] | None = None,
) -> Plan:
    """Return the plan of a run on an executor, or refuse it with the bytes.

    Parameters
    ----------
    shape : tuple of int
        (N, D).
    x_bytes : int
        Of X, as it was given.
    settings : Settings
    store : Run or None
    memory_limit : int or None
        Bytes; None for what is found.
    in_memory : bool
        Whether X stays in this process's memory.
    sparse : bool
        Whether X is sparse affinities, which a run keeps as they are.
    mapped : bool
        Whether X is in a file that is mapped, of which threads read what they need.
    is_prepared : bool
        Whether X has been prepared, as the settings ask for.
    shares : Shares
    executor : Executor
    blind : list of str, optional
        Addresses of the workers that do not see the store; looked for where not given.
    """
    if blind is None:
        blind = blind_workers(executor, store)
    if blind:
        place = scratch_folder() if store is None else store.url
        require_sight(blind, place, settings.p_storage, keeps_p=False, saves=settings.save)
    n_points, n_features = shape[0], settings.n_mapped(shape[1])
    sparse_x_bytes = x_bytes if sparse else 0
    here = in_memory and executor.shares_memory
    given = x_bytes if (in_memory or blind) and not (here and mapped) else 0
    prepared = 8 * n_points * n_features if settings.prepares and (in_memory or blind) else 0
    if memory_limit is None:
        # What is found is beyond an X that is in this process's memory.
        taken = given + (prepared if is_prepared else 0) if here else 0
        memory_limit = int(USED_SHARE * executor.memory_found()) + taken
    return make_plan(
        n_points,
        n_features,
        settings.n_components,
        x_bytes=(given + prepared) * executor.n_processes,
        sparse_x_bytes=sparse_x_bytes,
        raw_bytes=8 * shape[0] * shape[1] if settings.prepares and not in_memory else 0,
        n_processes=executor.n_processes,
        n_threads=executor.n_threads,
        memory_limit=memory_limit,
        disk_found=_disk_found(store),
        keeps_p=(
            store is not None
            and settings.p_storage != "recompute"
            and settings.metric != "affinities"  # X is P
            and not blind
        ),
        keeps_x=store is not None or not in_memory,
        shares_store=not blind,
        grid_bytes=_grid_bytes(settings, n_points),
        n_starts=_n_starts(settings),
        saves=settings.save,
        kept_share=shares.kept,
        anneals=len(make_schedule(settings, n_points)) > 1,
        coarse_share=shares.coarse,
        dtype=settings.dtype,
        p_storage=settings.p_storage,
        repulsion=settings.repulsion,
        block_rows=settings.block_rows,
        shards=settings.shards,
    )


def plan_again(
    plan: Plan,
    settings: Settings,
    *,
    memory_limit: int | None,
    x_bytes: int,
    sparse: bool,
    executor: Executor,
) -> Plan:
    """Return the plan of a run that goes on, for the memory that there is now.

    How the work is laid out stays, and with it all bits; fewer rows of X may be kept, or more.

    Parameters
    ----------
    plan : Plan
        That the run had so far.
    settings : Settings
    memory_limit : int or None
        Bytes that the run was given when it began; None for what is found.
    x_bytes : int
        Of X where each process has it in memory; 0 where tasks read it from the run.
    sparse : bool
        Whether X is sparse affinities.
    executor : Executor

    Raises
    ------
    ResourceError
        The work does not fit in all the memory found.
    """
    n_points, n_features = plan.n_points, plan.n_features
    whole = make_plan(
        n_points,
        n_features,
        plan.n_components,
        x_bytes=x_bytes * executor.n_processes,
        sparse_x_bytes=x_bytes if sparse else 0,
        n_processes=executor.n_processes,
        n_threads=executor.n_threads,
        memory_limit=sys.maxsize,
        disk_found=sys.maxsize,
        keeps_p=plan.keeps_p,
        keeps_x=True,
        grid_bytes=_grid_bytes(settings, n_points),
        n_starts=_n_starts(settings),
        kept_share=plan.kept_share,
        anneals=len(make_schedule(settings, n_points)) > 1,
        coarse_share=plan.coarse_share if plan.coarse_storage == "memory" else 0.0,
        dtype=plan.dtype,
        p_storage=plan.p_storage,
        repulsion=plan.repulsion,
        block_rows=plan.block_rows,
        shards=plan.shards,
    )
    row_bytes = 8 * n_features * executor.n_processes
    held = whole.memory_bytes - whole.kept_rows * row_bytes
    found = executor.memory_found()
    if held > found:
        raise ResourceError(
            f"the run needs {format_bytes(held)} of memory, as it keeps S in {plan.p_storage} and "
            f"has {executor.n_threads} tasks at once, and {format_bytes(found)} were found; give "
            "it more memory or fewer threads, or start anew with another p_storage="
        )
    limit = min(int(USED_SHARE * found), sys.maxsize if memory_limit is None else memory_limit)
    kept_rows = min(whole.kept_rows, max(0, limit - held) // row_bytes)
    return replace(
        plan,
        x_bytes=whole.x_bytes - (whole.kept_rows - kept_rows) * row_bytes,
        kept_rows=kept_rows,
        memory_bytes=held + kept_rows * row_bytes,
        memory_limit=limit,
        n_threads=executor.n_threads,
    )


def _grid_bytes(settings: Settings, n_points: int) -> int:
    if settings.repulsion == "direct":
        return 0
    return planned_grid_bytes(n_points, settings.n_components)


def _n_starts(settings: Settings) -> int:
    return TWO_STARTS + RANDOM_RIVALS if settings.races else TWO_STARTS


def settled(settings: Settings, x: Data) -> Settings:
    """Return the settings with which x is mapped: where affinities are sparse, so is S, in memory.

    Raises
    ------
    InvalidInputError
        S shall be elsewhere.
    """
    if not is_graph(x, settings.metric):
        return settings
    if settings.p_storage not in ("auto", "memory"):
        raise InvalidInputError(
            f"p_storage={settings.p_storage!r} with sparse affinities: P is in memory and S takes "
            "about twice as much; use p_storage='auto', or give a dense array"
        )
    return replace(settings, p_storage="memory")


def sampled_shares(source: Source, settings: Settings) -> Shares:
    """Return the shares of P that are kept, from some rows of the data."""
    kept = sampled_share(source, settings, settings.tail_mass)
    if _may_be_coarse(settings, source.n_points):
        return Shares(kept, sampled_share(source, settings, COARSE_TAIL_MASS))
    return Shares(kept, 0.0)


def _may_be_coarse(settings: Settings, n_points: int) -> bool:
    """Say whether there is a coarse stage before, if memory has room for it."""
    return (
        is_too_large_to_anneal(settings, n_points)
        and settings.may_drop_tails
        and settings.tail_mass < COARSE_TAIL_MASS
    )


def shares_of(executor: Executor, x: Data, settings: Settings) -> Shares:
    """Return the shares of P that are kept, from some rows of an array; all for a lazy one."""
    whole = settings.tail_mass == 0.0 and not is_graph(x, settings.metric)
    if isinstance(x, da.Array) or (whole and not _may_be_coarse(settings, x.shape[0])):
        return WHOLE
    if settings.prepares:
        held = not executor.shares_memory
        x, _ = prepare(executor, x, None, settings, None, in_memory=True, blind=held)
    rows = ArrayRows(x)
    look = look_at(executor, rows, settings.metric)
    return sampled_shares(look.source(rows, settings.metric), settings)


def _disk_found(store: Run | None) -> int:
    if store is not None and store.path is None:
        return sys.maxsize  # a bucket
    folder = Path(scratch_folder()) if store is None or store.path is None else store.path
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free

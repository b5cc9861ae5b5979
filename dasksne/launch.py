"""The beginning and the end of a run: data in, plan made, run kept."""

import shutil
import sys
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from dasksne import checkpoint
from dasksne.affinities import sampled_share
from dasksne.agreement import compare_with_start, compare_workers
from dasksne.difference import difference
from dasksne.errors import InvalidInputError, SchedulerLostError, StoreError
from dasksne.executor import Executor, current_executor, reconnected
from dasksne.fit import go_through_stages, save_start
from dasksne.integrity import create_arrays, require_same_data
from dasksne.job import HISTORY, Job, Outcome, Watcher, make_schedule
from dasksne.kernels.calibration import normalise
from dasksne.kernels.distances import squared_distances
from dasksne.kernels.probabilities import conditional_probabilities
from dasksne.levels import make_levels
from dasksne.lock import locked
from dasksne.newcomers import explained_by_newcomers, look_at_newcomers
from dasksne.placed import placed_start
from dasksne.plan import Plan, make_plan
from dasksne.preparation import RAW, Preparation, kept_preparation, prepare
from dasksne.reach import blind_workers, require_sight, tell_of_blind
from dasksne.run import Run
from dasksne.settings import ARRAYS, Settings
from dasksne.source import ArrayRows, Rows, Source, StoredRows, bytes_of
from dasksne.staging import (
    Data,
    Look,
    is_graph,
    look_at,
    look_at_array,
    readable_rows,
    scratch_folder,
    scratch_run,
    store_rows,
    stored_rows,
    stored_source,
    stored_x,
    x_in_memory,
)
from dasksne.starts import first_map, is_annealed
from dasksne.stopping import telling_how_to_go_on
from dasksne.tails import Tails
from dasksne.transform import FittedMap, fitted_map
from dasksne.types import FloatArray

USED_SHARE = 0.9
"""Of the memory found, what a run may plan to use."""


class Result(NamedTuple):
    """An outcome and the plan that it was reached by."""

    outcome: Outcome
    plan: Plan
    settings: Settings
    fitted: FittedMap | None
    """For new points; None where nothing keeps X, which was lazy."""

    @property
    def n_features(self) -> int:
        """Of X, as it was given."""
        preparation = None if self.fitted is None else self.fitted.preparation
        return self.plan.n_features if preparation is None else len(preparation.mean)


def plan_run(
    shape: tuple[int, int],
    x_bytes: int,
    settings: Settings,
    *,
    store: Run | None,
    memory_limit: int | None,
    in_memory: bool,
    sparse: bool = False,
    kept_share: float = 1.0,
    executor: Executor | None = None,
    blind: list[str] | None = None,
) -> Plan:
    """Return the plan of a run on the current executor, or refuse it with the bytes.

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
    kept_share : float
        Of the entries of P, about.
    executor : Executor, optional
    blind : list of str, optional
        Addresses of the workers that do not see the store; looked for where not given.
    """
    executor = executor or current_executor()
    if blind is None:
        blind = blind_workers(executor, store)
    if blind:
        place = scratch_folder() if store is None else store.url
        require_sight(blind, place, settings.p_storage, keeps_p=False, saves=settings.save)
    n_points, n_features = shape[0], settings.n_mapped(shape[1])
    levels = make_levels(settings, n_points)
    sparse_x_bytes = x_bytes if sparse else 0
    x_bytes = x_bytes * executor.n_processes if in_memory or blind else 0
    if settings.prepares and x_bytes:
        x_bytes += 8 * n_points * n_features * executor.n_processes

    def plan(p_storage: str) -> Plan:
        return make_plan(
            n_points,
            n_features,
            settings.n_components,
            x_bytes=x_bytes,
            sparse_x_bytes=sparse_x_bytes,
            raw_bytes=8 * shape[0] * shape[1] if settings.prepares and not in_memory else 0,
            n_processes=executor.n_processes,
            n_threads=executor.n_threads,
            memory_limit=(
                int(USED_SHARE * executor.memory_found()) if memory_limit is None else memory_limit
            ),
            disk_found=_disk_found(store),
            keeps_p=(
                store is not None
                and settings.p_storage != "recompute"
                and settings.metric != "affinities"  # X is P
                and not blind
            ),
            keeps_x=store is not None or not in_memory,
            saves=settings.save,
            kept_share=kept_share,
            anneals=len(make_schedule(settings, n_points)) > 1,
            copied_rows=0 if levels is None else levels.n_rows,
            dtype=settings.dtype,
            p_storage=p_storage,
            repulsion=settings.repulsion,
            block_rows=settings.block_rows,
            shards=settings.shards,
        )

    planned = plan(settings.p_storage)
    return plan("recompute") if blind and planned.p_storage == "zarr" else planned


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


def kept_share(executor: Executor, x: Data, settings: Settings) -> float:
    """Return the share of P that is kept, from some rows of an array; 1 for a lazy one."""
    sparse = is_graph(x, settings.metric)
    if isinstance(x, da.Array) or (settings.tail_mass == 0.0 and not sparse):
        return 1.0
    if settings.prepares:
        held = not executor.shares_memory
        x, _ = prepare(executor, x, None, settings, None, in_memory=True, blind=held)
    rows = ArrayRows(x)
    look = look_at(executor, rows, settings.metric)
    return sampled_share(look.source(rows, settings.metric), settings)


def launch(
    x: Data,
    settings: Settings,
    *,
    store: Run | None,
    overwrite: bool,
    memory_limit: int | None,
    watcher: Watcher,
) -> Result:
    """Compute the map of x.

    Parameters
    ----------
    x : numpy.ndarray, csr_array or dask.array.Array of shape (N, D)
    settings : Settings
    store : Run or None
        Where the run is kept; None for a run that leaves nothing.
    overwrite : bool
        Whether a run at `store` is replaced.
    memory_limit : int or None
        Bytes that all tasks together may use; None for what is found.
    watcher : Watcher
    """
    try:
        return _launch(x, settings, store, overwrite, memory_limit, watcher)
    except SchedulerLostError as lost:
        if store is None or not store.holds_a_run():
            raise
        with reconnected(lost):
            return resume(store, watcher=watcher)


def _launch(
    x: Data,
    settings: Settings,
    store: Run | None,
    overwrite: bool,
    memory_limit: int | None,
    watcher: Watcher,
) -> Result:
    settings.require_fits(*x.shape)
    executor = current_executor()
    blind = blind_workers(executor, store)
    sparse = is_graph(x, settings.metric)
    in_memory = not isinstance(x, da.Array) and (executor.shares_memory or bool(blind) or sparse)

    shape, x_bytes = (x.shape[0], x.shape[1]), bytes_of(x)

    def plan(kept_share: float) -> Plan:
        return plan_run(
            shape,
            x_bytes,
            settings,
            store=store,
            memory_limit=memory_limit,
            in_memory=in_memory,
            sparse=sparse,
            kept_share=kept_share,
            executor=executor,
            blind=blind,
        )

    # Work that cannot fit, and bad data, are found before a store is made or one replaced; what
    # is kept of P is known when the data is there, and prepared.
    planned = plan(1.0 if settings.tail_mass == 0.0 and not sparse else 0.0)
    look = None
    if not isinstance(x, da.Array):
        look = look_at_array(x, "euclidean" if settings.prepares else settings.metric)
        if not settings.prepares:
            planned = plan(sampled_share(look.source(ArrayRows(x), settings.metric), settings))
    needed = settings.prepares or not in_memory
    given = None if look is None else look.fingerprint
    differs = "" if store is None or overwrite else difference(store, settings, given)
    # The executor ends first: no task writes to a place that is being removed.
    place = _place(store, planned, overwrite=overwrite, difference=differs, needed=needed)
    with place as run, executor:
        kept = run if store is not None or not in_memory else None
        x, rows, preparation = _bring(
            executor, x, look, settings, kept, watcher, in_memory=in_memory, blind=bool(blind)
        )
        if look is None or preparation is not None:
            watcher.work_began("looking at X")
            look = look_at(executor, rows, settings.metric)
            planned = plan(sampled_share(look.source(rows, settings.metric), settings))
        source = look.source(_keeping(rows, planned), settings.metric)
        if isinstance(rows, ArrayRows):
            executor.hold(source)
        job = _make_job(
            executor,
            source,
            settings,
            planned,
            run,
            keeps=store is not None,
            shares_run=not blind,
            watcher=watcher,
        )
        if store is not None:
            tell_of_blind(blind, store.url)
            known = given or (None if settings.prepares else look.fingerprint)
            _record(job, look, preparation, known)
        outcome = _carry_out(job, look)
    if store is not None:
        fitted = _stored_map(store, preparation, settings, planned)
    elif not isinstance(x, da.Array):
        source = look.source(ArrayRows(x), settings.metric)
        embedding = ArrayRows(outcome.embedding)
        fitted = fitted_map(source, embedding, preparation, settings, planned)
    else:
        fitted = None
    return Result(outcome, planned, settings, fitted)


def _keeping(rows: Rows, plan: Plan) -> Rows:
    """Return rows of which each process keeps as many as a plan has memory for."""
    return replace(rows, kept_rows=plan.kept_rows) if isinstance(rows, StoredRows) else rows


def _bring(
    executor: Executor,
    x: Data,
    look: Look | None,
    settings: Settings,
    run: Run | None,
    watcher: Watcher,
    *,
    in_memory: bool,
    blind: bool,
) -> tuple[Data, Rows, Preparation | None]:
    """Return the data, prepared as asked for, and its rows as all tasks read them.

    The run, if one is given, has both: it keeps X, or tasks read it there.
    """
    preparation = None
    if settings.prepares:
        watcher.work_began("preparing X")
        x, preparation = prepare(executor, x, look, settings, run, in_memory=in_memory, blind=blind)
    if run is None:
        return x, ArrayRows(x), preparation
    watcher.work_began("storing X")
    store_rows(x, run, settings.metric, by_workers=not blind)
    run.delete(RAW)
    rows = ArrayRows(x) if in_memory else readable_rows(run, "X", blind=blind)
    return x, rows, preparation


def resume(run: Run, *, watcher: Watcher) -> Result:
    """Go on with a run where it stopped; a finished run's result is read.

    Raises
    ------
    StoreError
        There is no run, or it stopped before its data was in the store.
    """
    try:
        return _resume(run, watcher)
    except SchedulerLostError as lost:
        with reconnected(lost):
            return resume(run, watcher=watcher)


def _resume(run: Run, watcher: Watcher) -> Result:
    run.require()
    state = run.state
    if state["status"] == "created":
        raise StoreError(
            f"{run.url} stopped before its data was stored; start it anew with overwrite=True"
        )
    arrays = {name: run.read_whole(kept) for name, kept in ARRAYS.items() if run.has(kept)}
    settings = Settings.from_json(state["parameters"], arrays)
    plan = Plan(**state["plan"])
    preparation = kept_preparation(run)
    if state["status"] == "finished":
        try:
            found = _found_before(run)
        except StoreError as damage:
            warnings.warn(f"{damage}; it is made again from the last checkpoint", stacklevel=3)
        else:
            return Result(found, plan, settings, _stored_map(run, preparation, settings, plan))
    with locked(run), current_executor() as executor:
        blind = blind_workers(executor, run)
        require_sight(blind, run.url, plan.p_storage, keeps_p=plan.keeps_p, saves=settings.save)
        tell_of_blind(blind, run.url)
        require_same_data(
            executor, run, settings.metric, state["fingerprint"], by_workers=not blind
        )
        create_arrays(run, plan, settings)
        look = Look(state["exponent"], np.array(state["mean"]), state["fingerprint"])
        rows = ArrayRows(x_in_memory(run)) if blind else stored_x(run)
        source = look.source(rows, settings.metric)
        if isinstance(rows, ArrayRows):
            executor.hold(source)
        job = _make_job(
            executor,
            source,
            settings,
            plan,
            run,
            keeps=True,
            shares_run=not blind,
            watcher=watcher,
        )
        values, damaged = checkpoint.load(run)
        if damaged:
            before = "the start" if values is None else "the one before"
            warnings.warn(
                f"checkpoint {damaged[0]} of {run.url} is damaged; going on from {before}",
                stacklevel=3,
            )
        if values is not None:
            job.history = [tuple(row) for row in values["history"].tolist()]
            job.seconds = float(values["seconds"])
        outcome = _carry_out(job, look, values)
    return Result(outcome, plan, settings, _stored_map(run, preparation, settings, plan))


def _stored_map(
    run: Run, preparation: Preparation | None, settings: Settings, plan: Plan
) -> FittedMap:
    embedding = stored_rows(run, "embedding")
    return fitted_map(stored_source(run), embedding, preparation, settings, plan)


@contextmanager
def _place(
    store: Run | None, plan: Plan, *, overwrite: bool, difference: str, needed: bool
) -> Iterator[Run | None]:
    """Make the run's store; one that nobody asked for is removed at the end."""
    if store is not None:
        with locked(store):
            store.create(overwrite=overwrite, difference=difference)
            store.update(id=uuid.uuid4().hex)
            try:
                yield store
            except BaseException:
                if store.state["status"] == "created":  # a resume could not go on from here
                    store.delete()
                raise
    elif needed or plan.p_storage == "zarr":
        with scratch_run() as run:
            yield run
    else:
        yield None


def _disk_found(store: Run | None) -> int:
    if store is not None and store.path is None:
        return sys.maxsize  # a bucket
    folder = Path(scratch_folder()) if store is None or store.path is None else store.path
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _record(job: Job, look: Look, preparation: Preparation | None, given: str | None) -> None:
    """Write all that a resume needs, before any work is done.

    The data has a fingerprint as it is kept and, where it is known, one as it was given.
    """
    run, plan, settings = job.run, job.plan, job.settings
    assert run is not None  # noqa: S101 - only a run is recorded
    create_arrays(run, plan, settings)
    if preparation is not None:
        preparation.keep(run)
    for name, values in settings.arrays.items():
        run.create_array(ARRAYS[name], values.shape, values.shape)
        run.write(ARRAYS[name], slice(None), values)
    run.update(
        status="started",
        parameters=settings.to_json(),
        plan=asdict(plan),
        exponent=look.exponent,
        mean=look.mean.tolist(),
        fingerprint=look.fingerprint,
        given=given,
    )


def _make_job(
    executor: Executor,
    source: Source,
    settings: Settings,
    plan: Plan,
    run: Run | None,
    *,
    keeps: bool,
    shares_run: bool,
    watcher: Watcher,
) -> Job:
    levels = make_levels(settings, plan.n_points)
    return Job(
        executor,
        source,
        settings,
        plan,
        make_schedule(settings, plan.n_points),
        run,
        keeps=keeps,
        shares_run=shares_run,
        watcher=watcher,
        stages_before=0 if levels is None else levels.n_stages,
        look_at_newcomers=partial(look_at_newcomers, executor, run if shares_run else None),
    )


def _carry_out(job: Job, look: Look, values: dict[str, Any] | None = None) -> Outcome:
    """Go from the data, or from a checkpoint's values, to the map; keep it where it is kept."""
    kept = job.run if job.keeps else None
    compare_workers(job.executor)
    if kept is not None:
        compare_with_start(kept)
    with (
        nullcontext() if kept is None else telling_how_to_go_on(kept, job.plan),
        explained_by_newcomers(job),
    ):
        if values is not None and "start" in values:
            outcome = go_through_stages(job, values["start"])
        else:
            outcome = go_through_stages(job, _start(job, look, values), values)
        if kept is not None:
            _finish(job, outcome)
    return outcome


def _start(job: Job, look: Look, values: dict[str, Any] | None) -> FloatArray:
    """Return the first map; one that took work is kept as a checkpoint.

    A run that goes on from a later checkpoint needs it only to race against what it came to.
    """
    levels = make_levels(job.settings, job.plan.n_points)
    if values is not None and not is_annealed(job):
        return np.empty((0, 0))
    if levels is None:
        return first_map(job, look)
    start = placed_start(job, look, levels)
    if job.keeps:
        save_start(job, start)
    return start


def _finish(job: Job, outcome: Outcome) -> None:
    """Write the results, then say that the run is finished."""
    run, plan = job.run, job.plan
    assert run is not None  # noqa: S101 - only a run that is kept is finished
    y = outcome.embedding
    run.create_array("embedding", y.shape, y.shape)
    run.write("embedding", slice(None), y)
    for name in HISTORY:
        column = outcome.history[name]
        run.create_array(f"history/{name}", column.shape, column.shape)
        if column.size:
            run.write(f"history/{name}", slice(None), column)
    if "Q" in job.settings.save:
        for part in job.executor.map(_write_q, plan.blocks, run, job.executor.broadcast(y)):
            job.executor.wait(part)
    run.delete("S")
    run.delete("landmarks")
    run.update(
        status="finished",
        kl_divergence=outcome.cost,
        constant_cost=outcome.constant_cost,
        n_iter=outcome.n_iter,
        stopped=outcome.stopped,
        unreached=outcome.unreached,
        tails=None if outcome.tails is None else outcome.tails._asdict(),
    )


def _found_before(run: Run) -> Outcome:
    """Return what a finished run found."""
    state = run.state
    return Outcome(
        embedding=run.read_whole("embedding"),
        cost=state["kl_divergence"],
        constant_cost=state["constant_cost"],
        n_iter=state["n_iter"],
        history={name: run.read(f"history/{name}") for name in HISTORY},
        stopped=state["stopped"],
        unreached=state["unreached"],
        tails=None if state["tails"] is None else Tails(**state["tails"]),
    )


def _write_q(rows: slice, run: Run, y: FloatArray) -> None:
    """Write rows of Q: conditional probabilities at precision one."""
    distances = np.empty((rows.stop - rows.start, len(y)))
    squared_distances(y[rows], y, distances)
    found = normalise(distances, rows.start, precision=1.0)
    conditional_probabilities(distances, rows.start, found, distances)
    run.write("Q", rows, distances)


def report(result: Result) -> dict[str, Any]:
    """Return what was chosen, needed and found, in plain values."""
    return {
        **asdict(result.plan),
        "cost_per_point": result.outcome.cost_per_point,
        "share_explained": result.outcome.share_explained,
        "stopped": result.outcome.stopped,
        "rows_below_perplexity": result.outcome.unreached,
        "tails": None if result.outcome.tails is None else result.outcome.tails._asdict(),
        "seed": result.settings.seed,
    }

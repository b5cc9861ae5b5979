"""The beginning and the end of a run: data in, plan made, run kept."""

import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import numpy.typing as npt

from dasksne import checkpoint
from dasksne.agreement import compare_with_start, compare_workers
from dasksne.components import weighted_mean
from dasksne.difference import difference
from dasksne.errors import DamageError, SchedulerLostError, StoreError
from dasksne.executor import Executor, current_executor, reconnected
from dasksne.fit import go_through_stages
from dasksne.integrity import create_arrays, remake_damaged_arrays, require_same_data
from dasksne.job import Job, Outcome, Watcher, make_schedule
from dasksne.labels import keep_labels
from dasksne.lock import locked
from dasksne.newcomers import explained_by_newcomers, look_at_newcomers
from dasksne.plan import Plan
from dasksne.planning import NOTHING, WHOLE, Shares, plan_again, plan_run, sampled_shares
from dasksne.preparation import RAW, Preparation, kept_preparation, prepare
from dasksne.reach import blind_workers, require_sight, tell_of_blind
from dasksne.results import keep_outcome, kept_outcome
from dasksne.run import Run
from dasksne.settings import ARRAYS, Settings
from dasksne.source import ArrayRows, Features, Rows, Source, StoredRows, bytes_of, forget_rows
from dasksne.staging import (
    Data,
    Look,
    is_graph,
    is_stored_sparse,
    look_at,
    look_at_array,
    readable_rows,
    scratch_run,
    store_rows,
    stored_bytes,
    stored_rows,
    stored_source,
    stored_x,
    x_in_memory,
)
from dasksne.starts import first_map, is_annealed
from dasksne.stopping import telling_how_to_go_on, telling_of_blocks
from dasksne.transform import FittedMap, fitted_map


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


def launch(
    x: Data,
    settings: Settings,
    *,
    store: Run | None,
    overwrite: bool,
    memory_limit: int | None,
    watcher: Watcher,
    feature_names: Sequence[str] | None = None,
    labels: npt.NDArray[np.generic] | None = None,
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
    feature_names : sequence of str, optional
        Of the columns of x, for the run to keep.
    labels : ndarray of shape (N,), optional
        Of the points, for the run to keep.
    """
    try:
        return _launch(x, settings, store, overwrite, memory_limit, watcher, feature_names, labels)
    except SchedulerLostError as lost:
        if store is None or not store.holds_a_run():
            raise
        with reconnected(lost):
            return resume(store, watcher=watcher, reconnects=True)
    finally:
        forget_rows()


def _launch(
    x: Data,
    settings: Settings,
    store: Run | None,
    overwrite: bool,
    memory_limit: int | None,
    watcher: Watcher,
    feature_names: Sequence[str] | None,
    labels: npt.NDArray[np.generic] | None,
) -> Result:
    settings.require_fits(*x.shape)
    executor = current_executor()
    blind = blind_workers(executor, store)
    sparse = is_graph(x, settings.metric)
    in_memory = not isinstance(x, da.Array) and (executor.shares_memory or bool(blind) or sparse)

    shape, x_bytes = (x.shape[0], x.shape[1]), bytes_of(x)

    def plan(shares: Shares) -> Plan:
        return plan_run(
            shape,
            x_bytes,
            settings,
            store=store,
            memory_limit=memory_limit,
            in_memory=in_memory,
            sparse=sparse,
            shares=shares,
            executor=executor,
            blind=blind,
        )

    # Work that cannot fit, and bad data, are found before a store is made or one replaced; what
    # is kept of P is known when the data is there, and prepared.
    planned = plan(WHOLE if settings.tail_mass == 0.0 and not sparse else NOTHING)
    look = None
    if not isinstance(x, da.Array):
        look = look_at_array(x, "euclidean" if settings.prepares else settings.metric)
        if not settings.prepares:
            planned = plan(sampled_shares(look.source(ArrayRows(x), settings.metric), settings))
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
            planned = plan(sampled_shares(look.source(rows, settings.metric), settings))
        look = look._replace(counts=settings.sample_weight)
        source = look.source(_keeping(rows, planned), settings.metric)
        if isinstance(rows, ArrayRows) or source.counts is not None:
            executor.hold(source)
        if isinstance(source, Features) and source.counts is not None:
            look = look._replace(mean=weighted_mean(executor, source))
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
            store.update(memory_limit=memory_limit)
            _record(job, look, preparation, known, feature_names, labels)
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
    store_rows(executor, x, run, settings.metric, by_workers=not blind)
    run.delete(RAW)
    rows = ArrayRows(x) if in_memory else readable_rows(run, "X", blind=blind)
    return x, rows, preparation


def resume(run: Run, *, watcher: Watcher, reconnects: bool = False) -> Result:
    """Go on with a run where it stopped; a finished run's result is read.

    Parameters
    ----------
    run : Run
    watcher : Watcher
    reconnects : bool
        Whether this process has worked on it until the scheduler was lost: workers come back one by
        one, and what the first ones have of memory tells nothing.

    Raises
    ------
    StoreError
        There is no run, or it stopped before its data was in the store.
    ResourceError
        It does not fit in the memory found.
    """
    try:
        return _resume(run, watcher, reconnects=reconnects)
    except SchedulerLostError as lost:
        with reconnected(lost):
            return resume(run, watcher=watcher, reconnects=True)
    finally:
        forget_rows()


def _resume(run: Run, watcher: Watcher, *, reconnects: bool) -> Result:
    run.require()
    state = run.state
    if state["status"] == "created":
        how = "start it anew" if run.path is not None else "start it anew with overwrite=True"
        raise StoreError(f"{run.url} stopped before its data was stored; {how}")
    arrays = {name: run.read_whole(kept) for name, kept in ARRAYS.items() if run.has(kept)}
    settings = Settings.from_json(state["parameters"], arrays)
    plan = Plan(**state["plan"])
    preparation = kept_preparation(run)
    if state["status"] == "finished":
        try:
            found = kept_outcome(run)
        except DamageError as damage:
            warnings.warn(f"{damage}; it is made again from the last checkpoint", stacklevel=3)
        else:
            return Result(found, plan, settings, _stored_map(run, preparation, settings, plan))
    with locked(run), current_executor() as executor:
        run.tidy()
        checkpoint.tidy(run)
        blind = blind_workers(executor, run)
        require_sight(blind, run.url, plan.p_storage, keeps_p=plan.keeps_p, saves=settings.save)
        tell_of_blind(blind, run.url)
        if not reconnects:
            sparse = is_stored_sparse(run)
            with telling_how_to_go_on(run):
                plan = plan_again(
                    plan,
                    settings,
                    memory_limit=state["memory_limit"],
                    x_bytes=stored_bytes(run) if blind or sparse else 0,
                    sparse=sparse,
                    executor=executor,
                )
                run.update(plan=asdict(plan))
        require_same_data(
            executor, run, settings.metric, state["fingerprint"], by_workers=not blind
        )
        remake_damaged_arrays(run, plan, settings)
        mean = np.array(state["mean"])
        look = Look(state["exponent"], mean, state["fingerprint"], settings.sample_weight)
        rows = ArrayRows(x_in_memory(run)) if blind else stored_x(run)
        source = look.source(rows, settings.metric)
        if isinstance(rows, ArrayRows) or source.counts is not None:
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
            job.spent = int(values["spent"])
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
    elif needed or "zarr" in (plan.p_storage, plan.coarse_storage):
        with scratch_run() as run:
            yield run
    else:
        yield None


def _record(
    job: Job,
    look: Look,
    preparation: Preparation | None,
    given: str | None,
    feature_names: Sequence[str] | None,
    labels: npt.NDArray[np.generic] | None,
) -> None:
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
    if labels is not None:
        keep_labels(run, labels)
    run.update(
        status="started",
        parameters=settings.to_json(),
        plan=asdict(plan),
        exponent=look.exponent,
        mean=look.mean.tolist(),
        fingerprint=look.fingerprint,
        given=given,
        feature_names=None if feature_names is None else list(feature_names),
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
    return Job(
        executor,
        source,
        settings,
        plan,
        make_schedule(settings, plan.n_points, coarse=plan.coarse_share > 0.0),
        run,
        keeps=keeps,
        shares_run=shares_run,
        watcher=watcher,
        look_at_newcomers=partial(look_at_newcomers, executor, run if shares_run else None),
    )


def _carry_out(job: Job, look: Look, values: dict[str, Any] | None = None) -> Outcome:
    """Go from the data, or from a checkpoint's values, to the map; keep it where it is kept."""
    kept = job.run if job.keeps else None
    compare_workers(job.executor)
    if kept is not None:
        compare_with_start(kept)
    with (
        nullcontext() if kept is None else telling_how_to_go_on(kept),
        telling_of_blocks(job.plan),
        explained_by_newcomers(job),
    ):
        # A run that goes on needs its start only to race against what that comes to.
        needed = values is None or is_annealed(job)
        start = first_map(job, look) if needed else np.empty((0, 0))
        outcome = go_through_stages(job, start, values)
        if kept is not None:
            keep_outcome(job, outcome)
    return outcome


def report(result: Result) -> dict[str, Any]:
    """Return what was chosen, needed and found, in plain values."""
    return {
        **asdict(result.plan),
        "cost_per_point": result.outcome.cost / result.settings.n_counted(result.plan.n_points),
        "share_explained": result.outcome.share_explained,
        "stopped": result.outcome.stopped,
        "rows_below_perplexity": result.outcome.unreached,
        "tails": None if result.outcome.tails is None else result.outcome.tails._asdict(),
        "seed": result.settings.seed,
    }

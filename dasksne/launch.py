"""The beginning of a run: data in, plan made, store made, and on to the map."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import dask.array as da
import numpy as np
import numpy.typing as npt

from dasksne.components import weighted_mean
from dasksne.difference import difference
from dasksne.errors import SchedulerLostError
from dasksne.executor import Executor, current_executor, reconnected
from dasksne.integrity import create_arrays
from dasksne.job import Job, Outcome, Watcher
from dasksne.labels import keep_labels
from dasksne.lock import locked
from dasksne.overwriting import require_elsewhere
from dasksne.plan import Plan
from dasksne.planning import NOTHING, WHOLE, Shares, plan_run, sampled_shares
from dasksne.preparation import RAW, Preparation, prepare
from dasksne.reach import blind_workers, tell_of_blind
from dasksne.resuming import resume
from dasksne.run import Run
from dasksne.settings import ARRAYS, Settings
from dasksne.source import (
    ArrayRows,
    Features,
    Rows,
    Source,
    StoredRows,
    bytes_of,
    forget_rows,
    is_mapped,
)
from dasksne.staging import (
    Data,
    Look,
    is_graph,
    look_at,
    look_at_array,
    readable_rows,
    scratch_run,
    store_rows,
)
from dasksne.transform import FittedMap, fitted_map
from dasksne.work import Result, carry_out, held_source, make_job, stored_map


@dataclass(frozen=True)
class Order:
    """What is asked for, and what it is to be done with."""

    x: Data
    """Of shape (N, D)."""
    settings: Settings
    store: Run | None
    """Where the run is kept; None for a run that leaves nothing."""
    memory_limit: int | None
    """Bytes that all tasks together may use; None for what is found."""
    executor: Executor
    blind: list[str]
    """Workers that do not reach the store."""
    watcher: Watcher
    run_id: str
    """Of the run that is made there: what was there before has another."""

    @property
    def is_graph(self) -> bool:
        """Whether X is sparse affinities."""
        return is_graph(self.x, self.settings.metric)

    @property
    def in_memory(self) -> bool:
        """Whether tasks read X from memory."""
        if isinstance(self.x, da.Array):
            return False
        return self.executor.shares_memory or bool(self.blind) or self.is_graph

    @property
    def needs_run(self) -> bool:
        """Whether there must be a run, if only for a while, for tasks to read X from."""
        return not self.in_memory

    def plan(self, shares: Shares, *, is_prepared: bool = False) -> Plan:
        """Return the plan for what P keeps, or refuse what does not fit."""
        return plan_run(
            (self.x.shape[0], self.x.shape[1]),
            bytes_of(self.x),
            self.settings,
            store=self.store,
            memory_limit=self.memory_limit,
            in_memory=self.in_memory,
            sparse=self.is_graph,
            mapped=is_mapped(self.x),
            is_prepared=is_prepared,
            shares=shares,
            executor=self.executor,
            blind=self.blind,
        )


class Brought(NamedTuple):
    """The data, prepared as asked for, where all tasks read it."""

    x: Data
    look: Look
    source: Source
    preparation: Preparation | None


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
    settings.require_fits(*x.shape)
    run_id = uuid.uuid4().hex
    if store is not None and overwrite:
        require_elsewhere(x, store)
    try:
        # No name here keeps the executor, should its scheduler be lost.
        return _launch(
            _order(x, settings, store, memory_limit, watcher, run_id),
            feature_names,
            labels,
            overwrite=overwrite,
        )
    except SchedulerLostError as error:
        if store is None or not store.holds_a_run() or store.state.get("id") != run_id:
            raise
        lost = error.alone()
    finally:
        forget_rows()
    with reconnected(lost):
        return resume(store, watcher=watcher, reconnects=True)


def _order(
    x: Data,
    settings: Settings,
    store: Run | None,
    memory_limit: int | None,
    watcher: Watcher,
    run_id: str,
) -> Order:
    """Return the order for the executor that there is now, and what its workers see."""
    executor = current_executor()
    blind = blind_workers(executor, store)
    return Order(x, settings, store, memory_limit, executor, blind, watcher, run_id)


def _launch(
    order: Order,
    feature_names: Sequence[str] | None,
    labels: npt.NDArray[np.generic] | None,
    *,
    overwrite: bool,
) -> Result:
    settings, store = order.settings, order.store
    # Work that cannot fit, and bad data, are found before a store is made or one replaced.
    plan, look = _foresee(order)
    given = None if look is None else look.fingerprint
    differs = "" if store is None or overwrite else difference(store, settings, given)
    # The executor ends first: no task writes to a place that is being removed.
    with _place(order, plan, overwrite=overwrite, difference=differs) as run, order.executor:
        data, plan = _bring(order, plan, look, run)
        job = make_job(
            order.executor,
            data.source,
            settings,
            plan,
            run,
            keeps=store is not None,
            shares_run=not order.blind,
            watcher=order.watcher,
        )
        if store is not None:
            tell_of_blind(order.blind, store.url)
            store.update(memory_limit=order.memory_limit)
            known = given or (None if settings.prepares else data.look.fingerprint)
            _record(job, data, known, feature_names, labels)
        outcome = carry_out(job, data.look)
    return Result(outcome, plan, settings, _fitted_map(order, data, plan, outcome))


def _foresee(order: Order) -> tuple[Plan, Look | None]:
    """Return a plan, and what a look at X finds if that costs no computation.

    What is kept of P is known when the data is there, and prepared.
    """
    settings, x = order.settings, order.x
    plan = order.plan(WHOLE if settings.tail_mass == 0.0 and not order.is_graph else NOTHING)
    if isinstance(x, da.Array):
        return plan, None
    if settings.prepares:
        return plan, look_at_array(x, "euclidean")
    look = look_at_array(x, settings.metric)
    return order.plan(sampled_shares(look.source(ArrayRows(x), settings.metric), settings)), look


def _bring(order: Order, plan: Plan, look: Look | None, run: Run | None) -> tuple[Brought, Plan]:
    """Bring the data to where all tasks read it, and plan by what it then is."""
    settings, executor = order.settings, order.executor
    x, rows, preparation = _bring_rows(order, look, run)
    if look is None or preparation is not None:
        order.watcher.work_began("looking at X")
        look = look_at(executor, rows, settings.metric)
        shares = sampled_shares(look.source(rows, settings.metric), settings)
        plan = order.plan(shares, is_prepared=preparation is not None)
    look = look._replace(counts=settings.sample_weight)
    if isinstance(rows, StoredRows):
        rows = replace(rows, kept_rows=plan.kept_rows)
    source = held_source(executor, look, rows, settings.metric)
    if isinstance(source, Features) and source.counts is not None:
        look = look._replace(mean=weighted_mean(executor, source))
    return Brought(x, look, source, preparation), plan


def _bring_rows(
    order: Order, look: Look | None, run: Run | None
) -> tuple[Data, Rows, Preparation | None]:
    """Return the data, prepared as asked for, and its rows as all tasks read them.

    A run that keeps X, or has it for tasks to read, has both.
    """
    x, settings, executor, blind = order.x, order.settings, order.executor, bool(order.blind)
    if order.store is None and order.in_memory:
        run = None  # it is there for what P or S is kept in
    preparation = None
    if settings.prepares:
        order.watcher.work_began("preparing X")
        x, preparation = prepare(
            executor, x, look, settings, run, in_memory=order.in_memory, blind=blind
        )
    if run is None:
        return x, ArrayRows(x), preparation
    order.watcher.work_began("storing X")
    store_rows(executor, x, run, settings.metric, by_workers=not blind)
    run.delete(RAW)
    rows = ArrayRows(x) if order.in_memory else readable_rows(run, "X", blind=blind)
    return x, rows, preparation


def _fitted_map(order: Order, data: Brought, plan: Plan, outcome: Outcome) -> FittedMap | None:
    """Return what places new points; None where nothing keeps X, which was lazy."""
    settings = order.settings
    if order.store is not None:
        return stored_map(order.store, data.preparation, settings, plan)
    if isinstance(data.x, da.Array):
        return None
    source = data.look.source(ArrayRows(data.x), settings.metric)
    return fitted_map(source, ArrayRows(outcome.embedding), data.preparation, settings, plan)


@contextmanager
def _place(order: Order, plan: Plan, *, overwrite: bool, difference: str) -> Iterator[Run | None]:
    """Make the run's store; one that nobody asked for is removed at the end."""
    store = order.store
    if store is not None:
        with locked(store):
            store.create(overwrite=overwrite, difference=difference)
            store.update(id=order.run_id)
            try:
                yield store
            except BaseException:
                if store.state["status"] == "created":  # a resume could not go on from here
                    store.delete()
                raise
    elif order.needs_run or "zarr" in (plan.p_storage, plan.coarse_storage):
        with scratch_run() as run:
            yield run
    else:
        yield None


def _record(
    job: Job,
    data: Brought,
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
    if data.preparation is not None:
        data.preparation.keep(run)
    for name, values in settings.arrays.items():
        run.create_array(ARRAYS[name], values.shape, values.shape)
        run.write(ARRAYS[name], slice(None), values)
    if labels is not None:
        keep_labels(run, labels)
    run.update(
        status="started",
        parameters=settings.to_json(),
        plan=asdict(plan),
        exponent=data.look.exponent,
        mean=data.look.mean.tolist(),
        fingerprint=data.look.fingerprint,
        given=given,
        feature_names=None if feature_names is None else list(feature_names),
    )

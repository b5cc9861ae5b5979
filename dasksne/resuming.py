"""Going on with a run where it stopped, from nothing but its store."""

import warnings
from dataclasses import asdict
from typing import Any

import numpy as np

from dasksne import checkpoint
from dasksne.errors import DamageError, SchedulerLostError, StoreError
from dasksne.executor import Executor, current_executor, reconnected
from dasksne.integrity import remake_damaged_arrays, require_same_data
from dasksne.job import Job, Outcome, Watcher
from dasksne.lock import locked
from dasksne.plan import Plan
from dasksne.planning import plan_again
from dasksne.preparation import kept_preparation
from dasksne.reach import blind_workers, require_sight, tell_of_blind
from dasksne.results import kept_outcome
from dasksne.run import Run
from dasksne.settings import ARRAYS, Settings
from dasksne.source import ArrayRows, forget_rows
from dasksne.staging import Look, is_stored_sparse, stored_bytes, stored_x, x_in_memory
from dasksne.stopping import telling_how_to_go_on
from dasksne.work import Result, carry_out, held_source, make_job, stored_map


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
    except SchedulerLostError as error:
        lost = error.alone()
    finally:
        forget_rows()
    with reconnected(lost):
        return resume(run, watcher=watcher, reconnects=True)


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
    outcome = _found(run) if state["status"] == "finished" else None
    if outcome is None:
        with locked(run), current_executor() as executor:
            run.tidy()
            checkpoint.tidy(run)
            blind = blind_workers(executor, run)
            require_sight(blind, run.url, plan.p_storage, keeps_p=plan.keeps_p, saves=settings.save)
            tell_of_blind(blind, run.url)
            if not reconnects:
                plan = _plan_again(run, executor, plan, settings, blind=bool(blind))
            job, look = _take_up(run, executor, plan, settings, watcher, blind=bool(blind))
            outcome = carry_out(job, look, _go_back(job))
    return Result(outcome, plan, settings, stored_map(run, preparation, settings, plan))


def _found(run: Run) -> Outcome | None:
    """Return what a finished run found; None where that is damaged, with a warning."""
    try:
        return kept_outcome(run)
    except DamageError as damage:
        warnings.warn(f"{damage}; it is made again from the last checkpoint", stacklevel=5)
        return None


def _plan_again(
    run: Run, executor: Executor, plan: Plan, settings: Settings, *, blind: bool
) -> Plan:
    """Return the run's plan for the memory there is now, and keep it."""
    sparse = is_stored_sparse(run)
    with telling_how_to_go_on(run):
        plan = plan_again(
            plan,
            settings,
            memory_limit=run.state["memory_limit"],
            x_bytes=stored_bytes(run) if blind or sparse else 0,
            sparse=sparse,
            executor=executor,
        )
        run.update(plan=asdict(plan))
    return plan


def _take_up(
    run: Run,
    executor: Executor,
    plan: Plan,
    settings: Settings,
    watcher: Watcher,
    *,
    blind: bool,
) -> tuple[Job, Look]:
    """Return the job of a run whose data is what it was, and what a look at the data found."""
    state = run.state
    require_same_data(executor, run, settings.metric, state["fingerprint"], by_workers=not blind)
    remake_damaged_arrays(run, plan, settings)
    mean = np.array(state["mean"])
    look = Look(state["exponent"], mean, state["fingerprint"], settings.sample_weight)
    rows = ArrayRows(x_in_memory(run)) if blind else stored_x(run)
    job = make_job(
        executor,
        held_source(executor, look, rows, settings.metric),
        settings,
        plan,
        run,
        keeps=True,
        shares_run=not blind,
        watcher=watcher,
    )
    return job, look


def _go_back(job: Job) -> dict[str, Any] | None:
    """Return the values of the last sound checkpoint, if there is one, and what led to it."""
    assert job.run is not None  # noqa: S101 - it was opened
    values, damaged = checkpoint.load(job.run)
    if damaged:
        before = "the start" if values is None else "the one before"
        warnings.warn(
            f"checkpoint {damaged[0]} of {job.run.url} is damaged; going on from {before}",
            stacklevel=5,
        )
        checkpoint.drop(job.run, damaged)
    if values is not None:
        job.history = [tuple(row) for row in values["history"].tolist()]
        job.spent = int(values["spent"])
        job.seconds = float(values["seconds"])
    return values

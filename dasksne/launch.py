"""The beginning and the end of a run: data in, plan made, run kept."""

import shutil
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import dask
import numpy as np

from dasksne import checkpoint
from dasksne.affinities import sampled_share
from dasksne.agreement import compare_kernels
from dasksne.errors import SchedulerLostError, StoreError
from dasksne.executor import Executor, current_executor, reconnected
from dasksne.fit import go_through_stages
from dasksne.integrity import create_arrays, require_same_data
from dasksne.job import HISTORY, Job, Outcome, Watcher, make_schedule
from dasksne.kernels.calibration import normalise
from dasksne.kernels.distances import squared_distances
from dasksne.kernels.probabilities import conditional_probabilities
from dasksne.lock import locked
from dasksne.optimise.symmetry import break_symmetry
from dasksne.plan import Plan, make_plan
from dasksne.reach import blind_workers, require_sight
from dasksne.run import Run
from dasksne.settings import Settings
from dasksne.source import ArrayRows, Features, Rows
from dasksne.staging import Data, Look, look_at_array, look_at_stored, store_rows, stored_source
from dasksne.starts import pca_start, random_start, spectral_map
from dasksne.stopping import telling_how_to_go_on
from dasksne.tails import Tails
from dasksne.types import FloatArray

USED_SHARE = 0.9
"""Of the memory found, what a run may plan to use."""


class Result(NamedTuple):
    """An outcome and the plan that it was reached by."""

    outcome: Outcome
    plan: Plan
    settings: Settings


def plan_run(
    shape: tuple[int, int],
    itemsize: int,
    settings: Settings,
    *,
    store: Run | None,
    memory_limit: int | None,
    in_memory: bool,
    kept_share: float = 1.0,
    executor: Executor | None = None,
    blind: list[str] | None = None,
) -> Plan:
    """Return the plan of a run on the current executor, or refuse it with the bytes.

    Parameters
    ----------
    shape : tuple of int
        (N, D).
    itemsize : int
        Of X, in bytes.
    settings : Settings
    store : Run or None
    memory_limit : int or None
        Bytes; None for what is found.
    in_memory : bool
        Whether X stays in this process's memory.
    kept_share : float
        Of the entries of P, about.
    executor : Executor, optional
    blind : list of str, optional
        Addresses of the workers that do not see the store; looked for where not given.
    """
    executor = executor or current_executor()
    if blind is None:
        blind = blind_workers(executor, _folder(store))
    if blind:
        place = str(_folder(store))
        require_sight(blind, place, settings.p_storage, keeps_p=False, saves=settings.save)
    x_bytes = shape[0] * shape[1] * itemsize * executor.n_processes

    def plan(p_storage: str) -> Plan:
        return make_plan(
            *shape,
            settings.n_components,
            x_bytes=x_bytes if in_memory or blind else 0,
            n_threads=executor.n_threads,
            memory_limit=(
                int(USED_SHARE * executor.memory_found()) if memory_limit is None else memory_limit
            ),
            disk_found=_disk_found(store),
            keeps_p=store is not None and settings.p_storage != "recompute" and not blind,
            keeps_x=store is not None or not in_memory,
            saves=settings.save,
            kept_share=kept_share,
            anneals=len(make_schedule(settings, shape[0])) > 1,
            dtype=settings.dtype,
            p_storage=p_storage,
            repulsion=settings.repulsion,
            block_rows=settings.block_rows,
            shards=settings.shards,
        )

    planned = plan(settings.p_storage)
    return plan("recompute") if blind and planned.p_storage == "zarr" else planned


def kept_share(x: Data, settings: Settings) -> float:
    """Return the share of P that is kept, from some rows of an array; 1 for a lazy one."""
    if settings.tail_mass == 0.0 or not isinstance(x, np.ndarray):
        return 1.0
    look = look_at_array(x, settings.metric)
    return sampled_share(look.source(ArrayRows(x), settings.metric), settings)


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
    x : numpy.ndarray or dask.array.Array of shape (N, D)
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
        if store is None or not store.holds_a_run() or not reconnected(lost):
            raise
    return resume(store, watcher=watcher)


def _launch(
    x: Data,
    settings: Settings,
    store: Run | None,
    overwrite: bool,
    memory_limit: int | None,
    watcher: Watcher,
) -> Result:
    settings.require_fits(x.shape[0])
    schedule = make_schedule(settings, x.shape[0])
    executor = current_executor()
    blind = blind_workers(executor, _folder(store))
    in_memory = isinstance(x, np.ndarray) and (executor.shares_memory or bool(blind))

    def plan(kept_share: float) -> Plan:
        return plan_run(
            (x.shape[0], x.shape[1]),
            x.dtype.itemsize,
            settings,
            store=store,
            memory_limit=memory_limit,
            in_memory=in_memory,
            kept_share=kept_share,
            executor=executor,
            blind=blind,
        )

    # Work that cannot fit, and bad data, are found before a store is made or one replaced; what
    # a lazy array keeps of P is known when its data is there.
    planned = plan(1.0 if settings.tail_mass == 0.0 else 0.0)
    look = None
    if isinstance(x, np.ndarray):
        look = look_at_array(x, settings.metric)
        planned = plan(sampled_share(look.source(ArrayRows(x), settings.metric), settings))
    # The executor ends first: no task writes to a place that is being removed.
    with _place(store, planned, overwrite=overwrite, needed=not in_memory) as run, executor:
        rows: Rows = ArrayRows(x)
        if run is not None and (store is not None or not in_memory):
            stored = store_rows(x, run, settings.metric, by_workers=not blind)
            if not in_memory:
                rows = ArrayRows(run.read("X")) if blind else stored
            if look is None:
                look = (
                    look_at_array(run.read("X"), settings.metric)
                    if blind
                    else look_at_stored(executor, stored, settings.metric)
                )
                planned = plan(sampled_share(look.source(rows, settings.metric), settings))
        assert look is not None  # noqa: S101 - what is not an array was stored
        source = look.source(rows, settings.metric)
        if blind:
            executor.hold(source)
        job = Job(
            executor,
            source,
            settings,
            planned,
            schedule,
            run,
            keeps=store is not None,
            watcher=watcher,
            shares_run=not blind,
        )
        if store is None:
            compare_kernels(executor, None)
            outcome = go_through_stages(job, _start(job, look))
        else:
            _record(job, look)
            compare_kernels(executor, store)
            with telling_how_to_go_on(store, planned):
                outcome = go_through_stages(job, _start(job, look))
                _finish(job, outcome)
    return Result(outcome, planned, settings)


def resume(run: Run, *, watcher: Watcher) -> Result:
    """Go on with a run where it stopped; a finished run's result is read.

    Raises
    ------
    StoreError
        There is no run, or it stopped before its data was in the store.
    """
    while True:
        try:
            return _resume(run, watcher)
        except SchedulerLostError as lost:
            if not reconnected(lost):
                raise


def _resume(run: Run, watcher: Watcher) -> Result:
    run.require()
    state = run.state
    if state["status"] == "created":
        raise StoreError(
            f"{run.url} stopped before its data was stored; start it anew with overwrite=True"
        )
    init = run.read("start") if run.has("start") else None
    settings = Settings.from_json(state["parameters"], init)
    plan = Plan(**state["plan"])
    if state["status"] == "finished":
        try:
            return Result(_found_before(run), plan, settings)
        except StoreError as damage:
            warnings.warn(f"{damage}; it is made again from the last checkpoint", stacklevel=3)
    with locked(run), telling_how_to_go_on(run, plan), current_executor() as executor:
        blind = blind_workers(executor, _folder(run))
        require_sight(blind, run.url, plan.p_storage, keeps_p=plan.keeps_p, saves=settings.save)
        require_same_data(
            executor, run, settings.metric, state["fingerprint"], by_workers=not blind
        )
        compare_kernels(executor, run)
        create_arrays(run, plan, settings)
        look = Look(state["exponent"], np.array(state["mean"]), state["fingerprint"])
        source = stored_source(run)
        if blind:
            source = look.source(ArrayRows(run.read("X")), settings.metric)
            executor.hold(source)
        job = Job(
            executor,
            source,
            settings,
            plan,
            make_schedule(settings, plan.n_points),
            run,
            keeps=True,
            watcher=watcher,
            shares_run=not blind,
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
        start = _start(job, look) if values is None else values["optimiser_y"]
        outcome = go_through_stages(job, start, values)
        _finish(job, outcome)
    return Result(outcome, plan, settings)


@contextmanager
def _place(store: Run | None, plan: Plan, *, overwrite: bool, needed: bool) -> Iterator[Run | None]:
    """Make the run's store; one that nobody asked for is removed at the end."""
    if store is not None:
        with locked(store):
            store.create(overwrite=overwrite)
            store.update(id=uuid.uuid4().hex)
            try:
                yield store
            except BaseException:
                if store.state["status"] == "created":  # a resume could not go on from here
                    store.delete()
                raise
    elif needed or plan.p_storage == "zarr":
        with tempfile.TemporaryDirectory(prefix="dasksne-", dir=_scratch_folder()) as folder:
            run = Run.locate(Path(folder) / "run.zarr")
            run.create(overwrite=False)
            run.update(id=uuid.uuid4().hex)
            yield run
    else:
        yield None


def _scratch_folder() -> str:
    return dask.config.get("temporary-directory", None) or tempfile.gettempdir()


def _folder(store: Run | None) -> Path | None:
    """Return where the run's folder lies or will lie; None for a URL."""
    if store is None:
        return Path(_scratch_folder())
    return None if store.path is None else store.path.parent


def _disk_found(store: Run | None) -> int:
    if store is not None and store.path is None:
        return sys.maxsize  # a bucket
    folder = Path(_scratch_folder()) if store is None or store.path is None else store.path
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _record(job: Job, look: Look) -> None:
    """Write all that a resume needs, before any work is done."""
    run, plan, settings = job.run, job.plan, job.settings
    assert run is not None  # noqa: S101 - only a run is recorded
    create_arrays(run, plan, settings)
    if not isinstance(settings.init, str):
        run.create_array("start", settings.init.shape, settings.init.shape)
        run.write("start", slice(None), settings.init)
    run.update(
        status="started",
        parameters=settings.to_json(),
        plan=asdict(plan),
        exponent=look.exponent,
        mean=look.mean.tolist(),
        fingerprint=look.fingerprint,
    )


def _start(job: Job, look: Look) -> FloatArray:
    """Return the first map, centred, and spanning all of its dimensions."""
    settings, n = job.settings, job.plan.n_points
    if not isinstance(settings.init, str):
        y: FloatArray = np.array(settings.init, dtype=np.float64)
    elif settings.init == "spectral":
        y = spectral_map(job)
    elif settings.init != "random" and isinstance(job.source, Features):
        y = pca_start(job.executor, job.source, look.mean, settings.n_components, settings.seed)
    else:
        y = random_start(n, settings.n_components, settings.seed)
    return break_symmetry(y - np.mean(y, axis=0), seed=settings.seed)


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
    run.update(
        status="finished",
        kl_divergence=outcome.cost,
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
        "stopped": result.outcome.stopped,
        "rows_below_perplexity": result.outcome.unreached,
        "tails": None if result.outcome.tails is None else result.outcome.tails._asdict(),
        "seed": result.settings.seed,
    }

"""The way from data, or from a checkpoint, to a result: what a launch and a resume share."""

from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dasksne.agreement import compare_with_start, compare_workers
from dasksne.executor import Executor
from dasksne.fit import go_through_stages
from dasksne.job import Job, Outcome, Watcher, make_schedule
from dasksne.newcomers import explained_by_newcomers, look_at_newcomers
from dasksne.plan import Plan
from dasksne.preparation import Preparation
from dasksne.results import keep_outcome
from dasksne.run import Run
from dasksne.settings import Settings
from dasksne.source import ArrayRows, Rows, Source
from dasksne.staging import Look, stored_rows, stored_source
from dasksne.starts import first_map, is_annealed, plain_rival
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


def held_source(executor: Executor, look: Look, rows: Rows, metric: str) -> Source:
    """Return the distances between rows; what tasks would be sent again and again is held."""
    source = look.source(rows, metric)
    if isinstance(rows, ArrayRows) or source.counts is not None:
        executor.hold(source)
    if source.counts is not None:
        executor.hold(source.counts)
    return source


def make_job(
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
    """Return a job whose schedule its settings and plan give."""
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


def carry_out(job: Job, look: Look, values: dict[str, Any] | None = None) -> Outcome:
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
        outcome = go_through_stages(job, start, plain_rival(job, look, start), values)
        if kept is not None:
            keep_outcome(job, outcome)
    return outcome


def stored_map(
    run: Run, preparation: Preparation | None, settings: Settings, plan: Plan
) -> FittedMap:
    """Return what places new points on the map of a finished run."""
    embedding = stored_rows(run, "embedding")
    return fitted_map(stored_source(run), embedding, preparation, settings, plan)


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

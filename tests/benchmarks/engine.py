"""The engine of a fit, put together as a fit does, so that its parts can be timed."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dasksne import SNE
from dasksne.estimate import Estimate, estimate
from dasksne.executor import current_executor
from dasksne.job import Job, make_schedule
from dasksne.objective import SNEObjective
from dasksne.plan import Plan
from dasksne.planning import plan_run, sampled_shares, settled
from dasksne.progress import Reporter
from dasksne.run import Run
from dasksne.source import ArrayRows, bytes_of
from dasksne.stage import Affinities, calibrate_rows, make_objective
from dasksne.staging import Data, is_graph, look_at_array, store_rows


class Engine(NamedTuple):
    job: Job
    model: SNE

    @property
    def plan(self) -> Plan:
        return self.job.plan

    def estimate(self) -> Estimate:
        """Return the seconds that `dasksne plan` would print."""
        return estimate(self.plan, self.model)

    def calibrate(self) -> Affinities:
        """Find precision and normaliser of all rows, and where it pays the rows themselves."""
        (stage,) = self.job.schedule
        return calibrate_rows(self.job, stage.perplexity, 0, keep=False)

    def objective(self, affinities: Affinities) -> SNEObjective:
        """Make the rows of S, and wait for them."""
        return make_objective(self.job, affinities, 0)


@contextmanager
def engine_of(X: Data, **options: Any) -> Iterator[Engine]:
    """Make the engine for data and options of SNE, on the current client or on threads."""
    model = SNE(annealing=None, **options)
    settings = settled(model._settings(), X)
    schedule = make_schedule(settings, X.shape[0])
    with tempfile.TemporaryDirectory() as folder, current_executor() as executor:
        run = Run.locate(Path(folder) / "run.zarr")
        run.create(overwrite=False)
        run.update(id=uuid.uuid4().hex)
        sparse = is_graph(X, settings.metric)
        in_memory = executor.shares_memory or sparse
        rows = ArrayRows(X) if in_memory else store_rows(executor, X, run, settings.metric)
        source = look_at_array(X, settings.metric).source(rows, settings.metric)
        plan = plan_run(
            X.shape,
            bytes_of(X),
            settings,
            store=None,
            memory_limit=None,
            in_memory=in_memory,
            sparse=sparse,
            shares=sampled_shares(source, settings),
            executor=executor,
        )
        watcher = Reporter([], verbose=0)
        yield Engine(
            Job(executor, source, settings, plan, schedule, run, keeps=False, watcher=watcher),
            model,
        )

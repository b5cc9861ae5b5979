"""What a run found, as the run keeps it."""

import numpy as np

from dasksne.checksums import checksum
from dasksne.errors import DamageError
from dasksne.job import HISTORY, Job, Outcome
from dasksne.kernels.calibration import normalise
from dasksne.kernels.distances import squared_distances
from dasksne.kernels.probabilities import conditional_probabilities
from dasksne.run import Run
from dasksne.tails import Tails
from dasksne.types import FloatArray


def keep_outcome(job: Job, outcome: Outcome) -> None:
    """Write the results, then say that the run is finished."""
    run, plan = job.run, job.plan
    assert run is not None  # noqa: S101 - only a run that is kept is finished
    y = outcome.embedding
    run.create_array("embedding", y.shape, y.shape)
    run.write("embedding", slice(None), y)
    history = {name: outcome.history[name].astype(np.float64) for name in HISTORY}
    for name, column in history.items():
        run.create_array(f"history/{name}", column.shape, column.shape)
        if column.size:
            run.write(f"history/{name}", slice(None), column)
    if "Q" in job.settings.save:
        shared = job.executor.broadcast(y), job.source.counts
        for part in job.executor.map(_write_q, plan.blocks, run, run.state["id"], *shared):
            job.executor.wait(part)
    run.delete("S")
    run.update(
        status="finished",
        found=checksum(None, {"embedding": y, **history}),
        kl_divergence=outcome.cost,
        constant_cost=outcome.constant_cost,
        n_iter=outcome.n_iter,
        stopped=outcome.stopped,
        unreached=outcome.unreached,
        tails=None if outcome.tails is None else outcome.tails._asdict(),
    )


def kept_outcome(run: Run) -> Outcome:
    """Return what a finished run found; raise DamageError where that is not what was written."""
    state = run.state
    embedding = run.read_whole("embedding")
    history = {name: run.read(f"history/{name}") for name in HISTORY}
    if checksum(None, {"embedding": embedding, **history}) != state["found"]:
        raise DamageError(f"embedding and history of {run.url} are not what was written")
    return Outcome(
        embedding=embedding,
        cost=state["kl_divergence"],
        constant_cost=state["constant_cost"],
        n_iter=state["n_iter"],
        history=history,
        stopped=state["stopped"],
        unreached=state["unreached"],
        tails=None if state["tails"] is None else Tails(**state["tails"]),
    )


def _write_q(rows: slice, run: Run, run_id: str, y: FloatArray, counts: FloatArray | None) -> None:
    """Write rows of Q: conditional probabilities at precision one."""
    distances = np.empty((rows.stop - rows.start, len(y)))
    squared_distances(y[rows], y, distances)
    found = normalise(distances, rows.start, precision=1.0, counts=counts)
    conditional_probabilities(distances, rows.start, found, distances)
    run.require_same(run_id)
    run.write("Q", rows, distances)

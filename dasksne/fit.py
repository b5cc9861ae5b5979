"""From a start to a map: stages of falling perplexity, each an optimisation, with checkpoints."""

import time
from typing import Any

import numpy as np

from dasksne import checkpoint
from dasksne.affinities import Outputs, start_calibration, start_shards, width_of
from dasksne.errors import InvalidInputError
from dasksne.job import HISTORY, Event, Job, Outcome
from dasksne.kernels.calibration import Calibration
from dasksne.objective import SNEObjective
from dasksne.optimise.lbfgs import LBFGS
from dasksne.optimise.momentum import Momentum, spectral_step_size
from dasksne.optimise.state import Optimiser, State, state_from_dict, state_to_dict
from dasksne.tails import describe_tails
from dasksne.types import FloatArray

UNREACHED = 1e-6
"""In nats: a row whose entropy misses its target by more cannot reach its perplexity."""


def go_through_stages(
    job: Job, start: FloatArray, restored: dict[str, Any] | None = None
) -> Outcome:
    """Optimise stage by stage from a start, or from a checkpoint's values.

    A run that is stopped by its watcher is still evaluated at its last stage, so that the cost
    reported is always that of the perplexity asked for.
    """
    schedule = job.schedule
    y, stopped_early = start, False
    state: State | None = None
    unreached, tails = 0, None
    for k in range(restored["stage"] if restored else 0, len(schedule)):
        last = k + 1 == len(schedule)
        if stopped_early and not last:
            continue
        calibration = _calibrate(job, k, keep=job.keeps and last)
        if last:
            unreached = _count_unreached(job, calibration)
        objective = _objective(job, calibration)
        optimiser = _optimiser(job, k, objective, stop=stopped_early)
        if restored is None:
            state = optimiser.start(y, objective(y))
        else:
            state = state_from_dict(optimiser.state_type, _restored_state(restored))
            restored = None
        state, stops = _iterate(job, k, optimiser, state, objective)
        y, stopped_early = state.y, stopped_early or stops
        del objective  # and with it S, before the next stage makes its own
        if last and job.settings.tail_mass > 0.0:
            tails = describe_tails(job.executor, job.source, calibration, y, job.plan.shard_rows)
    assert state is not None  # noqa: S101 - there is always a last stage
    return Outcome(
        embedding=state.y,
        cost=state.cost,
        n_iter=len(job.history),
        history={name: np.array([row[i] for row in job.history]) for i, name in enumerate(HISTORY)},
        stopped="stopped by a callback" if stopped_early else str(state.stopped),
        unreached=unreached,
        tails=tails,
    )


def _calibrate(job: Job, k: int, *, keep: bool) -> Calibration:
    """Find precision and normaliser of all rows; blocks that the run has finished are read."""
    exponent = job.source.exponent
    width = width_of(job.settings, job.schedule[k].perplexity, exponent)
    blocks = job.plan.blocks
    finished = job.run.finished_blocks(blocks, exponent) if keep and job.run is not None else {}
    todo = [rows for rows in blocks if rows.start not in finished]
    outputs = Outputs(
        job.run if keep else None,
        probabilities=job.plan.keeps_p,
        distances="distances" in job.settings.save,
        dtype=job.plan.dtype,
    )
    handles = start_calibration(job.executor, job.source, width, todo, outputs)
    n_stages = len(job.schedule)
    for rows, handle in zip(todo, handles, strict=True):
        job.watcher.blocks_done(k, n_stages, len(finished), len(blocks))
        finished[rows.start] = job.executor.result(handle)
    job.watcher.blocks_done(k, n_stages, len(blocks), len(blocks))
    parts = [finished[rows.start] for rows in blocks]
    found = Calibration(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    if not np.all(np.isfinite(found.log_normaliser)):
        raise InvalidInputError(
            f"sigma={job.settings.sigma} is so small beside the distances between the points that "
            "their exponents overflow"
        )
    return found


def _count_unreached(job: Job, calibration: Calibration) -> int:
    if job.settings.perplexity is None:
        return 0
    # More points share the smallest distance than the perplexity asks for.
    above = calibration.entropy > np.log(job.settings.perplexity) + UNREACHED
    return int(np.count_nonzero(above))


def _objective(job: Job, calibration: Calibration) -> SNEObjective:
    plan = job.plan
    shards = start_shards(job.executor, job.source, calibration, plan, job.run)
    for shard in shards:
        job.executor.wait(shard)
    return SNEObjective(
        job.executor,
        shards,
        plan.shard_rows,
        float(np.sum(calibration.entropy)),
        plan.repulsion,
        job.settings.repulsion_rtol,
    )


def _optimiser(job: Job, k: int, objective: SNEObjective, *, stop: bool) -> Optimiser[Any]:
    settings = job.settings
    max_iter = 0 if stop else settings.max_iter
    tol = job.schedule[k].tol
    if settings.optimizer == "lbfgs":
        return LBFGS(max_iter=max_iter, tol=tol)
    step_size = spectral_step_size(objective.attraction, job.plan.n_points)
    return Momentum(step_size, max_iter=max_iter, tol=tol, seed=settings.seed)


def _iterate(
    job: Job, k: int, optimiser: Optimiser[Any], state: State, objective: SNEObjective
) -> tuple[State, bool]:
    """Step until the optimiser or the watcher stops; a stop of any kind leaves a checkpoint.

    Returns the state and whether the watcher stopped the run.
    """
    before = next((row[5] for row in reversed(job.history) if row[0] < k), 0)
    try:
        while state.stopped is None:
            state = optimiser.step(state, objective)
            event = _event(job, k, state, int(before))
            job.history.append(
                (
                    k,
                    event.perplexity,
                    event.cost,
                    event.gradient_norm,
                    event.step,
                    event.evaluations,
                    event.seconds,
                )
            )
            if job.watcher.step_done(event):
                return state, True
            if time.monotonic() - job.saved >= job.settings.checkpoint_seconds:
                _save(job, k, state)
    except KeyboardInterrupt as interrupt:
        if job.keeps:
            assert job.run is not None  # noqa: S101 - only a run is kept
            interrupt.add_note(f"the run is kept; go on with: dasksne resume {job.run.url}")
        raise
    finally:
        _save(job, k, state)
    return state, False


def _event(job: Job, k: int, state: State, evaluations_before: int) -> Event:
    embedding = state.y.view()
    embedding.flags.writeable = False  # a watcher looks on
    return Event(
        stage=k,
        n_stages=len(job.schedule),
        perplexity=job.schedule[k].perplexity,
        iteration=state.iteration,
        max_iter=job.settings.max_iter,
        cost=state.cost,
        gradient_norm=float(np.sqrt(np.sum(state.gradient**2))),
        step=state.step,
        evaluations=evaluations_before + state.evaluations,
        seconds=job.elapsed,
        embedding=embedding,
    )


def _save(job: Job, k: int, state: State) -> None:
    """Write a checkpoint; an iteration that was cut short is not in it."""
    if job.keeps:
        assert job.run is not None  # noqa: S101 - only a run is kept
        values = {f"optimiser_{name}": value for name, value in state_to_dict(state).items()}
        history = np.array(job.history, dtype=np.float64).reshape(-1, len(HISTORY))
        checkpoint.save(job.run, {**values, "stage": k, "history": history, "seconds": job.elapsed})
    job.saved = time.monotonic()


def _restored_state(values: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's values of the optimiser by their own names."""
    prefix = "optimiser_"
    return {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(prefix)
    }

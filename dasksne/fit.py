"""From a start to a map: stages of falling perplexity, each an optimisation, with checkpoints."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dasksne import checkpoint
from dasksne.job import HISTORY, Event, Job, Outcome, is_too_large_to_anneal
from dasksne.kernels.calibration import Calibration
from dasksne.objective import SNEObjective
from dasksne.optimise.lbfgs import LBFGS
from dasksne.optimise.momentum import Momentum, spectral_step_size
from dasksne.optimise.race import is_open, leader, leave_behind
from dasksne.optimise.schedule import EARLY_TOL, RACE_SHARE
from dasksne.optimise.state import (
    Optimiser,
    State,
    concluded,
    state_from_dict,
    state_to_dict,
    step,
    step_all,
)
from dasksne.stage import Affinities, calibrate_rows, make_objective, stage_job
from dasksne.starts import races_against_spectral, rival_maps, spectral_rival
from dasksne.tails import Tails, column_losses, describe_tails, error_bounds
from dasksne.types import FloatArray

UNREACHED = 1e-6
"""In nats: a row whose entropy misses its target by more cannot reach its perplexity."""


class Passed(NamedTuple):
    """A stage that is over: what is left of it, which is not the memory of its optimiser."""

    embedding: FloatArray
    cost: float
    stopped: str
    """Why it ended."""
    calibration: Calibration
    tails: Tails | None
    """Of the last stage, where rows of P drop them."""


def go_through_stages(
    job: Job,
    start: FloatArray,
    plain: FloatArray,
    restored: dict[str, Any] | None = None,
) -> Outcome:
    """Optimise stage by stage from a start, or from a checkpoint's values.

    What annealing comes to races against a plain start, which is not annealed. A run that is
    stopped by its watcher is still evaluated at its last stage, so that the cost reported is always
    that of the perplexity asked for.
    """
    y, first = start, 0
    if restored is not None:
        first = restored["stage"]
        if first + 1 < job.n_stages and _has_stopped(restored):
            job.spent += int(restored[f"{_prefix(0)}iteration"])
            y, first = restored[f"{_prefix(0)}y"], first + 1
            restored.clear()
            restored = None
    passed = _go_through_stage(job, first, y, plain, restored)
    for k in range(first + 1, job.n_stages):
        if not job.stopped or k + 1 == job.n_stages:
            passed = _go_through_stage(job, k, passed.embedding, plain)
    embedding, cost, stopped, calibration, tails = passed
    return Outcome(
        embedding=embedding,
        cost=cost,
        constant_cost=_constant_cost(job, calibration),
        n_iter=len(job.history),
        history={name: np.array([row[i] for row in job.history]) for i, name in enumerate(HISTORY)},
        stopped="stopped by a callback" if job.stopped else stopped,
        unreached=_count_unreached(job, calibration),
        tails=tails,
    )


def _go_through_stage(
    job: Job,
    k: int,
    y: FloatArray,
    plain: FloatArray,
    restored: dict[str, Any] | None = None,
) -> Passed:
    """Optimise at the perplexity of stage k, from a map or from a checkpoint's values."""
    at = stage_job(job, k)
    last = k + 1 == job.n_stages
    drops = last and job.settings.tail_mass > 0.0
    races = k == _opening(job) and not job.stopped and restored is None
    racing = [y, *rival_maps(at, plain)] if races else [y]
    affinities = calibrate_rows(
        at, job.schedule[k].perplexity, k, keep=at.keeps and last, losses=drops
    )
    objective = make_objective(at, affinities, k)
    if races and races_against_spectral(at):
        racing.append(spectral_rival(at, objective, plain))
    optimiser = _make_optimiser(job, k, objective)
    if restored is not None:
        states = _restored_states(optimiser, restored)
        restored.clear()  # who called has it too
    else:
        evaluations = objective.evaluate_all(racing)
        states = [optimiser.start(*each) for each in zip(racing, evaluations, strict=True)]
    with job.executor.stage(f"iterations of stage {k + 1}"):
        if len(states) > 1:
            states = [_race(job, k, optimiser, states, objective)]
            optimiser = replace(optimiser, max_iter=_allowed(job, k))
        state = _iterate(job, k, optimiser, states[0], objective)
    job.spent += state.iteration
    tails = _describe_tails(job, affinities, objective, state.y) if drops else None
    return Passed(state.y, state.cost, str(state.stopped), affinities.calibration, tails)


def _opening(job: Job) -> int:
    """Return the stage in which starts race.

    What an annealed start came to races against its rivals in the last stage; the start of points
    that are too many to be annealed does so in the first.
    """
    return 0 if is_too_large_to_anneal(job.settings, job.plan.n_points) else job.n_stages - 1


def _constant_cost(job: Job, calibration: Calibration) -> float:
    """Return what a map with all points in one place costs."""
    costs = np.log(job.settings.n_counted(job.plan.n_points) - 1.0) - calibration.entropy
    counts = job.source.counts
    return float(np.sum(costs if counts is None else counts * costs))


def _describe_tails(
    job: Job, affinities: Affinities, objective: SNEObjective, y: FloatArray
) -> Tails:
    """Return what truncation did at a map, with the bound of the error at every point."""
    cut, _, lost = affinities
    tail_mass = job.settings.tail_mass
    if lost is None:
        lost = column_losses(job.executor, job.source, cut, tail_mass, job.plan.shard_rows)
    bounds = error_bounds(cut, y, objective.degrees, lost, tail_mass)
    return describe_tails(job.executor, job.source, cut, y, bounds)


def _count_unreached(job: Job, calibration: Calibration) -> int:
    if job.settings.perplexity is None:
        return 0
    # More points share the smallest distance than the perplexity asks for.
    above = calibration.entropy > np.log(job.settings.perplexity) + UNREACHED
    return int(np.count_nonzero(above))


def _make_optimiser(job: Job, k: int, objective: SNEObjective) -> LBFGS | Momentum:
    """Return the optimiser of stage k that the job's settings ask for."""
    tol, max_iter = job.schedule[k].tol, _allowed(job, k)
    if job.settings.optimizer == "lbfgs":
        return LBFGS(max_iter=max_iter, tol=tol, degrees=objective.degrees)
    step_size = spectral_step_size(objective.attraction, job.plan.n_points)
    if k > 0:  # the first stage has shaken the map enough
        return Momentum(step_size, max_iter=max_iter, tol=tol, jitter=0.0)
    return Momentum(step_size, max_iter=max_iter, tol=tol, seed=job.settings.seed)


def _race(
    job: Job,
    k: int,
    optimiser: LBFGS | Momentum,
    states: Sequence[State],
    objective: SNEObjective,
) -> State:
    """Let the starts go on side by side, and return the state of the winner, to go on from.

    They share each pass over S. The watcher and the history see the one that leads.
    """
    longest = RACE_SHARE * optimiser.max_iter
    hurried: Optimiser[Any] = replace(optimiser, tol=max(EARLY_TOL, optimiser.tol))
    with _recording(job, k, states) as record:
        while is_open(states) and _iterations(states) < longest and not job.stopped:
            following = step_all(hurried, states, objective.evaluate_all)
            states = leave_behind(following, job.source.counts)
            record(states)
    winner = _winner(states)
    job.spent += _iterations(states) - winner.iteration
    return concluded(winner, _allowed(job, k), optimiser.tol)


def _iterations(states: Sequence[State]) -> int:
    return sum(state.iteration for state in states)


def _winner(states: Sequence[State]) -> State:
    """Return the state that leads, with the evaluations of all."""
    return replace(leader(states), evaluations=sum(state.evaluations for state in states))


def _iterate(
    job: Job, k: int, optimiser: Optimiser[Any], state: State, objective: SNEObjective
) -> State:
    """Step until the optimiser or the watcher stops."""
    with _recording(job, k, [state]) as record:
        while state.stopped is None and not job.stopped:
            state = step(optimiser, state, objective)
            record([state])
    return state


def _note(job: Job, k: int, state: State) -> Event:
    """Note an iteration in the history."""
    event = _event(job, k, state, _evaluations_before(job, k))
    job.history.append(tuple(getattr(event, name) for name in HISTORY))
    return event


def _tell(job: Job, event: Event) -> None:
    """Show an iteration to the cluster and to the watcher, which either may end the run."""
    job.look_at_newcomers()
    job.executor.log_event(
        {name: value for name, value in event._asdict().items() if name != "embedding"}
    )
    job.stopped = job.watcher.step_done(event)


def _allowed(job: Job, k: int) -> int:
    """Return the iterations of stage k: what it is given, and what those before it left over.

    None where the run was stopped before.
    """
    given = sum(stage.max_iter for stage in job.schedule[: k + 1])
    return 0 if job.stopped else given - job.spent


def _evaluations_before(job: Job, k: int) -> int:
    """Return the evaluations of the stages before stage k of the job."""
    column = HISTORY.index("evaluations")
    return next((int(row[column]) for row in reversed(job.history) if row[0] < k), 0)


def _event(job: Job, k: int, state: State, evaluations_before: int) -> Event:
    embedding = state.y.view()
    embedding.flags.writeable = False  # a watcher looks on
    return Event(
        stage=k,
        n_stages=job.n_stages,
        perplexity=job.schedule[k].perplexity,
        iteration=1 + sum(row[0] == k for row in job.history),
        max_iter=_allowed(job, k),
        cost=state.cost,
        gradient_norm=_gradient_norm(job, state),
        step=state.step,
        evaluations=evaluations_before + state.evaluations,
        seconds=job.elapsed,
        embedding=embedding,
    )


def _gradient_norm(job: Job, state: State) -> float:
    squares, counts = state.gradient**2, job.source.counts
    # A row is the sum over the copies of its point, which share it evenly.
    return float(np.sqrt(np.sum(squares if counts is None else squares / counts[:, np.newaxis])))


@contextmanager
def _recording(
    job: Job, k: int, states: Sequence[State]
) -> Iterator[Callable[[Sequence[State]], None]]:
    """Give what shows an iteration to the watcher, and writes a checkpoint if one is due.

    It is written while the next iteration is computed. A stop of any kind leaves one; an iteration
    that was cut short is not in it.
    """
    if not job.keeps:
        yield lambda states: _tell(job, _note(job, k, _winner(states)))
        return
    assert job.run is not None  # noqa: S101 - only a run is kept
    latest = states
    writer = checkpoint.Writer(job.run)

    def record(states: Sequence[State]) -> None:
        nonlocal latest
        writer.wait()  # so that the iteration before, if it was due, is in the run for good
        event, latest = _note(job, k, _winner(states)), states
        _tell(job, event)
        if time.monotonic() - job.saved >= job.settings.checkpoint_seconds:
            writer.begin(_values(job, k, latest))
            job.saved = time.monotonic()

    try:
        yield record
    finally:
        writer.finish(_values(job, k, latest))
        job.saved = time.monotonic()


def _values(job: Job, k: int, states: Sequence[State]) -> dict[str, Any]:
    """Return what a checkpoint holds."""
    values = {
        f"{_prefix(i)}{name}": value
        for i, state in enumerate(states)
        for name, value in state_to_dict(state).items()
    }
    history = np.array(job.history, dtype=np.float64).reshape(-1, len(HISTORY))
    values |= {"stage": k, "states": len(states), "spent": job.spent}
    return {**values, "history": history, "seconds": job.elapsed}


def _restored_states(optimiser: Optimiser[Any], values: dict[str, Any]) -> list[State]:
    """Return the states that a checkpoint holds: one, or those of a race."""
    return [
        state_from_dict(
            optimiser.state_type,
            {
                name.removeprefix(_prefix(i)): value
                for name, value in values.items()
                if name.startswith(_prefix(i))
            },
        )
        for i in range(values["states"])
    ]


def _has_stopped(values: dict[str, Any]) -> bool:
    """Say whether a checkpoint holds the end of a stage: nothing of that is needed but its map."""
    return values["states"] == 1 and values[f"{_prefix(0)}stopped"] is not None


def _prefix(i: int) -> str:
    return f"optimiser_{i}_"

"""What a stage computes before it optimises: the calibration of all rows, S, the objective."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dasksne.affinities import KeptRows, Outputs, start_calibration, start_shards, width_of
from dasksne.errors import InvalidInputError
from dasksne.finished import finish_block
from dasksne.integrity import sound_blocks
from dasksne.job import Job
from dasksne.kernels.calibration import Calibration
from dasksne.objective import SNEObjective
from dasksne.settings import sigma_of
from dasksne.types import FloatArray, IntArray


class Affinities(NamedTuple):
    """P, as the numbers that it follows from, and its rows where they are at hand."""

    calibration: Calibration
    kept: KeptRows | None
    lost: IntArray | None
    """What each column of P loses, if it was asked for and all rows were calibrated here."""


def stage_job(job: Job, k: int) -> Job:
    """Return the job as stage k goes about it: a coarse one keeps S where planned, and no P."""
    tail_mass = job.schedule[k].tail_mass
    if tail_mass <= job.settings.tail_mass:
        return job
    plan = job.plan
    assert plan.coarse_storage is not None  # noqa: S101 - there is a coarse stage
    return replace(
        job,
        settings=replace(job.settings, tail_mass=tail_mass, save=()),
        plan=replace(
            plan, p_storage=plan.coarse_storage, kept_share=plan.coarse_share, keeps_p=False
        ),
        keeps=False,
    )


def calibrate_rows(
    job: Job, perplexity: float, k: int, *, keep: bool, losses: bool = False
) -> Affinities:
    """Find precision and normaliser of all rows at a perplexity, as stage k does.

    Parameters
    ----------
    job : Job
    perplexity : float
        Not used where sigma is given.
    k : int
        Stage, for the watcher.
    keep : bool
        Whether the run keeps what is found; row blocks that it has already are read.
    losses : bool
        Whether to add up what columns lose, if tasks share memory.
    """
    width = width_of(job.settings, perplexity, job.source.exponent)
    blocks = job.plan.blocks
    finished = {}
    if keep and job.run is not None:
        finished = sound_blocks(job.executor, job.run, job.plan, job.settings)
    todo = [rows for rows in blocks if rows.start not in finished]
    joins = job.executor.shares_memory and job.plan.p_storage == "memory"
    kept: KeptRows | None = {} if joins and job.settings.tail_mass > 0.0 else None
    run = job.run if keep and job.shares_run else None
    outputs = Outputs(
        run,
        None if run is None else run.state["id"],
        probabilities=job.plan.keeps_p,
        distances="distances" in job.settings.save,
        dtype=job.plan.dtype,
        kept=kept,
        lost={} if losses and not finished and job.executor.shares_memory else None,
    )
    n_stages = job.n_stages
    with job.executor.stage("affinities"):
        handles = start_calibration(job.executor, job.source, width, todo, outputs)
    for rows, handle in zip(todo, handles, strict=True):
        job.watcher.blocks_done("affinities", k, n_stages, len(finished), len(blocks))
        finished[rows.start] = found = job.executor.result(handle)
        job.look_at_newcomers()
        if keep and job.run is not None and not job.shares_run:
            finish_block(job.run, rows, found)
    job.watcher.blocks_done("affinities", k, n_stages, len(blocks), len(blocks))
    parts = [finished[rows.start] for rows in blocks]
    whole = Calibration(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    finite = np.isfinite(whole.entropy)
    if not np.all(finite):
        sigma = sigma_of(job.settings.sigma, int(np.argmin(finite)))
        raise InvalidInputError(
            f"{sigma} is so small beside the distances between the points that their exponents "
            "overflow"
        )
    lost = outputs.lost
    if lost is not None:
        none = np.zeros(job.plan.n_points, dtype=np.int64)
        return Affinities(whole, kept, np.sum([none, *lost.values()], axis=0))
    return Affinities(whole, kept, None)


def make_objective(job: Job, affinities: Affinities, k: int) -> SNEObjective:
    """Make S, as stage k does, and return its objective; the rows of P are given up for it."""
    plan = job.plan
    calibration, kept, _ = affinities
    with job.executor.stage("joint probabilities"):
        shards = start_shards(job.executor, job.source, calibration, plan, job.run, kept)
    items, parts = shards
    if not parts:
        for done, shard in enumerate(items, start=1):
            job.executor.wait(shard)
            job.look_at_newcomers()
            job.watcher.blocks_done("joint probabilities", k, job.n_stages, done, len(items))
    if kept is not None:
        kept.clear()
    if plan.p_storage == "zarr":  # a worker that goes takes nothing of S along
        items = [job.executor.result(shard) for shard in items]
    entropy, counts = calibration.entropy, job.source.counts
    own_degrees: FloatArray | float = 0.0
    if counts is not None:
        entropy = counts * entropy
        # Copies are at distance 0, the smallest: one has the probability 1 / normaliser, both ways.
        log_p = np.where(counts > 1.0, -calibration.log_normaliser, -np.inf)
        own_degrees = 2.0 * counts * (counts - 1.0) * np.exp(log_p)
    return SNEObjective(
        job.executor,
        items,
        plan.shard_rows,
        float(np.sum(entropy)),
        plan.repulsion,
        job.settings.repulsion_rtol,
        parts=parts,
        in_memory=plan.p_storage == "memory",
        counts=counts,
        own_degrees=own_degrees,
    )

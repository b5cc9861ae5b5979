"""How long a run will take, from the real kernels timed on a small problem. Nothing depends on it.

The small problem has as many features and components as the real one, and is made of random
numbers. Its times, on one thread, are scaled by pairs of points, or by points for Fourier sums.
"""

import sys
import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dasksne.affinities import Outputs, Width, start_calibration, start_shards
from dasksne.estimator import SNE
from dasksne.executor.threads import ThreadExecutor
from dasksne.job import is_too_large_to_anneal, make_schedule
from dasksne.kernels.calibration import Calibration
from dasksne.objective import SNEObjective
from dasksne.plan import Plan, make_plan
from dasksne.repulsion import start_repulsion
from dasksne.settings import PAIRWISE
from dasksne.source import ArrayRows, Features
from dasksne.starts import RIVAL_PRODUCTS
from dasksne.types import FloatArray

SAMPLE_POINTS = 2048
"""Few enough for a second, enough that overheads hardly count."""
SAMPLE_VALUES = 1 << 23
"""Of the sample at most, points times features: 64 MiB."""
FOURIER_POINTS = 32_768
"""Fourier sums are timed on a larger map: they cost what its points and its extent cost."""
MAP_SPREAD = 5.0
"""Standard deviation of that map; those of finished maps are between 2 and 10."""
SAMPLE_PERPLEXITY = 30.0
RTOL = 1e-8
SPARSE_COST = 8.0
"""Of an entry of P where tails are dropped, in dense entries: it is in two rows of S, scattered."""
EARLY_EVALUATIONS = 12
"""Of a stage that is only a start for the next one, as measured on data sets of many kinds."""
LAST_EVALUATIONS = 100
"""Of the last stage."""
FINAL_EVALUATIONS = 40
"""Of the last stage, after a coarse one that was given LAST_EVALUATIONS."""


class Estimate(NamedTuple):
    """Seconds that the parts of a run will take, without reading and writing."""

    affinities: float
    """Of one stage: distances, calibration and S."""
    evaluation: float
    """Of the cost and its gradient."""
    stages: int
    evaluations: int
    """Over all stages, as many as are usual."""
    before: float
    """Before them: of a coarse stage, and of the search for a spectral start."""

    @property
    def total(self) -> float:
        """Of the whole run."""
        work = self.stages * self.affinities + self.evaluations * self.evaluation
        return self.before + work


class _Times(NamedTuple):
    """Seconds that one thread takes for all pairs of a sample."""

    affinities: float
    attraction: float


def estimate(plan: Plan, model: SNE, sample_weight: FloatArray | None = None) -> Estimate:
    """Estimate a run's time, in a second or two of work on this machine.

    Parameters
    ----------
    plan : Plan
        Of the run.
    model : SNE
        That would go through it.
    sample_weight : array of shape (N,), optional
        With which the plan was made.

    Notes
    -----
    Workers are taken to be as fast as this machine, and to wait for nothing.
    """
    n = min(plan.n_points, SAMPLE_POINTS, max(64, SAMPLE_VALUES // plan.n_features))
    n_features = 1 if model.metric in PAIRWISE else plan.n_features
    _time_pairs(plan, 64, n_features)  # compiles
    pairs = (plan.n_points / n) ** 2
    settings = model._settings()  # noqa: SLF001 - of this package's own class
    if sample_weight is not None and np.any(sample_weight != 1.0):
        settings = replace(settings, sample_weight=sample_weight)
    n_stages = len(make_schedule(settings, plan.n_points))
    repulsion = _time_repulsion(plan)

    def seconds(attraction: float) -> float:
        # Fourier sums of one map are for one thread.
        alone = repulsion if plan.repulsion == "fourier" else 0.0
        return max((attraction + repulsion) / plan.n_threads, alone)

    sample = _time_pairs(plan, n, n_features)
    affinities = pairs * sample.affinities / plan.n_threads
    sparse = SPARSE_COST if plan.p_storage != "recompute" else np.inf
    attraction = pairs * sample.attraction * min(1.0, sparse * plan.kept_share)
    before, last = 0.0, LAST_EVALUATIONS
    if plan.coarse_share > 0.0:
        kept = _time_pairs(replace(plan, p_storage="memory"), n, n_features).attraction
        coarse = pairs * kept * SPARSE_COST * plan.coarse_share
        before = affinities + RIVAL_PRODUCTS * coarse / plan.n_threads
        before += min(LAST_EVALUATIONS, model.max_iter) * seconds(coarse)
        last = FINAL_EVALUATIONS
    elif plan.has_cheap_products and is_too_large_to_anneal(settings, plan.n_points):
        before = RIVAL_PRODUCTS * attraction / plan.n_threads
    early = (n_stages - 1) * min(EARLY_EVALUATIONS, model.max_iter)
    evaluations = early + min(last, model.max_iter)
    return Estimate(affinities, seconds(attraction), n_stages, evaluations, before)


def _time_pairs(plan: Plan, n: int, n_features: int) -> _Times:
    """Time affinities and attraction of a sample of n points."""
    generator = np.random.default_rng(0)
    source = Features(ArrayRows(generator.standard_normal((n, n_features))))
    width = Width(min(SAMPLE_PERPLEXITY, 0.5 * n), None)
    sample = _sample_plan(plan, n)
    y = generator.standard_normal((n, plan.n_components))
    with ThreadExecutor(1, synchronous=True) as executor:
        began = time.perf_counter()
        parts = start_calibration(
            executor,
            source,
            width,
            sample.blocks,
            Outputs(None, None, probabilities=False, distances=False, dtype=plan.dtype),
        )
        found = [executor.result(part) for part in parts]
        calibration = Calibration(*(np.concatenate(column) for column in zip(*found, strict=True)))
        shards = start_shards(executor, source, calibration, sample, None)
        calibrated = time.perf_counter()
        layout = shards.items, sample.shard_rows, 0.0, plan.repulsion, RTOL
        objective = SNEObjective(executor, *layout, parts=shards.parts)
        objective.attraction(y)
        return _Times(calibrated - began, time.perf_counter() - calibrated)


def _sample_plan(plan: Plan, n: int) -> Plan:
    """Return the plan of a sample, which is small enough for memory."""
    return make_plan(
        n,
        plan.n_features,
        plan.n_components,
        x_bytes=0,
        n_threads=1,
        memory_limit=sys.maxsize,
        disk_found=0,
        keeps_p=False,
        keeps_x=False,
        dtype=plan.dtype,
        p_storage="recompute" if plan.p_storage == "recompute" else "memory",
        repulsion=plan.repulsion,
    )


def _time_repulsion(plan: Plan) -> float:
    """Return the seconds that one thread takes for the repulsion of the whole map."""
    by_fourier = plan.repulsion == "fourier"
    n = min(plan.n_points, FOURIER_POINTS if by_fourier else SAMPLE_POINTS)
    y = MAP_SPREAD * np.random.default_rng(0).standard_normal((n, plan.n_components))
    began = 0.0
    with ThreadExecutor(1, synchronous=True) as executor:
        for _ in range(2):  # the first compiles
            began = time.perf_counter()
            start_repulsion(executor, y, y, [slice(0, n)], plan.repulsion, RTOL)()
    return (time.perf_counter() - began) * (plan.n_points / n) ** (1 if by_fourier else 2)

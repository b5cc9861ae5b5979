"""How long a run will take, from the real kernels timed on a small problem. Nothing depends on it.

The small problem has as many features and components as the real one, and is made of random
numbers. Its times, on one thread, are scaled by pairs of points, or by points for Fourier sums.
"""

import sys
import time
from typing import NamedTuple

import numpy as np

from dasksne.affinities import Outputs, Width, start_calibration, start_shards
from dasksne.estimator import SNE
from dasksne.executor.threads import ThreadExecutor
from dasksne.job import make_schedule
from dasksne.kernels.calibration import Calibration
from dasksne.levels import Levels, make_levels
from dasksne.objective import SNEObjective
from dasksne.plan import Plan, make_plan
from dasksne.repulsion import start_repulsion
from dasksne.settings import PAIRWISE
from dasksne.source import ArrayRows, Features

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
LANDMARK_EVALUATIONS = 200
"""Of each set of landmarks over its stages."""
RACE_EVALUATIONS = 70
"""Of each map of the middle set."""


class Estimate(NamedTuple):
    """Seconds that the parts of a run will take, without reading and writing."""

    affinities: float
    """Of one stage: distances, calibration and S."""
    evaluation: float
    """Of the cost and its gradient."""
    stages: int
    evaluations: int
    """Over all stages, as many as are usual."""
    landmarks: float
    """Before the first stage: of the points that place the others."""

    @property
    def total(self) -> float:
        """Of the whole run."""
        return self.landmarks + self.stages * self.affinities + self.evaluations * self.evaluation


class _Times(NamedTuple):
    """Seconds that one thread takes for all pairs of a sample."""

    affinities: float
    attraction: float


def estimate(plan: Plan, model: SNE) -> Estimate:
    """Estimate a run's time, in a second or two of work on this machine.

    Parameters
    ----------
    plan : Plan
        Of the run.
    model : SNE
        That would go through it.

    Notes
    -----
    Workers are taken to be as fast as this machine, and to wait for nothing.
    """
    n = min(plan.n_points, SAMPLE_POINTS, max(64, SAMPLE_VALUES // plan.n_features))
    n_features = 1 if model.metric in PAIRWISE else plan.n_features
    _time_pairs(plan, 64, n_features)  # compiles
    pairs = (plan.n_points / n) ** 2
    sample = _time_pairs(plan, n, n_features)
    if plan.p_storage != "recompute":
        kept = min(1.0, SPARSE_COST * plan.kept_share)
        sample = sample._replace(attraction=kept * sample.attraction)
    times = _Times(*(pairs * seconds for seconds in sample))
    repulsion = _time_repulsion(plan)
    settings = model._settings()  # noqa: SLF001 - of this package's own class
    n_stages = len(make_schedule(settings, plan.n_points))
    affinities = times.affinities / plan.n_threads
    # Fourier sums of one map are one task.
    evaluation = max(
        (times.attraction + repulsion) / plan.n_threads,
        repulsion if plan.repulsion == "fourier" else 0.0,
    )
    levels = make_levels(settings, plan.n_points)
    return Estimate(
        affinities=affinities,
        evaluation=evaluation,
        landmarks=0.0 if levels is None else _landmarks(plan, levels, affinities, evaluation),
        stages=n_stages,
        evaluations=(
            (n_stages - 1) * min(EARLY_EVALUATIONS, model.max_iter)
            + min(LAST_EVALUATIONS, model.max_iter)
        ),
    )


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
            Outputs(None, probabilities=False, distances=False, dtype=plan.dtype),
        )
        found = [executor.result(part) for part in parts]
        calibration = Calibration(*(np.concatenate(column) for column in zip(*found, strict=True)))
        shards = start_shards(executor, source, calibration, sample, None)
        calibrated = time.perf_counter()
        objective = SNEObjective(executor, shards, sample.shard_rows, 0.0, plan.repulsion, RTOL)
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
            push = start_repulsion(executor, y, y, [slice(0, n)], plan.repulsion, RTOL)()
            executor.wait(push)
    return (time.perf_counter() - began) * (plan.n_points / n) ** (1 if by_fourier else 2)


def _landmarks(plan: Plan, levels: Levels, affinities: float, evaluation: float) -> float:
    """Return the seconds that the points take which are mapped first.

    Affinities and placement go by pairs; evaluations, with few neighbours, by points.
    """
    n, few, many = plan.n_points, levels.landmarks.n_points, levels.middle.n_points
    pairs = few**2 * len(levels.landmarks.schedule) + few * many
    pairs = levels.n_sets * pairs + many**2 + many * n
    points = levels.n_sets * (few * LANDMARK_EVALUATIONS + many * RACE_EVALUATIONS)
    return affinities * pairs / n**2 + evaluation * points / n

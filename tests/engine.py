"""The engine below the estimator, put together by hand: what a fit evaluates at each step."""

from contextlib import contextmanager

import numpy as np

from dasksne.affinities import Outputs, make_width, start_calibration, start_shards
from dasksne.executor.threads import ThreadExecutor
from dasksne.kernels.calibration import Calibration
from dasksne.objective import SNEObjective
from dasksne.plan import make_plan
from dasksne.source import ArrayRows
from dasksne.staging import look_at_array

PLENTY = 2**40
NOTHING = Outputs(None, None, probabilities=False, distances=False, dtype="float64")


def plan_of(X, n_components=2, **layout):
    return make_plan(
        *X.shape,
        n_components,
        x_bytes=0,
        n_threads=2,
        memory_limit=PLENTY,
        disk_found=PLENTY,
        keeps_p=False,
        keeps_x=False,
        **{"p_storage": "memory", "repulsion": "direct", **layout},
    )


def source_of(X, metric="euclidean"):
    return look_at_array(X, metric).source(ArrayRows(X), metric)


def calibrate(executor, source, width, plan, outputs=NOTHING):
    handles = start_calibration(executor, source, width, plan.blocks, outputs)
    parts = [executor.result(handle) for handle in handles]
    return Calibration(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@contextmanager
def objective_of(X, *, perplexity=None, sigma=None, metric="euclidean", run=None, **layout):
    """The objective of data X on two threads."""
    plan, source = plan_of(X, **layout), source_of(X, metric)
    width = make_width(perplexity, sigma, 0.0, source.exponent)
    with ThreadExecutor(2) as executor:
        calibration = calibrate(executor, source, width, plan)
        shards = start_shards(executor, source, calibration, plan, run)
        yield SNEObjective(
            executor,
            shards.items,
            plan.shard_rows,
            float(np.sum(calibration.entropy)),
            plan.repulsion,
            repulsion_rtol=1e-8,
            parts=shards.parts,
        )

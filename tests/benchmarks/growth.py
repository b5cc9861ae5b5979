"""Time each stage as N grows, find its exponent, and say what a cluster would take.

python tests/benchmarks/growth.py --mnist mnist.npz --sizes 5000 10000 20000 --json growth.json
"""

import statistics
from argparse import Namespace
from functools import partial
from typing import Any

import dask
import numpy as np
from cluster_model import cluster_rows
from common import Report, Spread, alternate, limited, make_data, make_parser, spread_map
from engine import engine_of

from dasksne.repulsion import start_repulsion

STAGES = ("affinities", "attraction", "repulsion", "evaluation")


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, repeats=3)
    sizes = [5_000, 10_000, 20_000, 40_000, 80_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes)
    parser.add_argument("--perplexity", type=float, default=30)
    parser.add_argument("--tail-mass", type=float, default=1e-3)
    options = parser.parse_args(arguments)
    report = Report("How the cost grows", options)
    with dask.config.set(scheduler="threads", num_workers=options.threads):
        _measure(min(options.sizes), options)  # compiles
        rows = [_measure(n, options) for n in sorted(options.sizes)]
    name = make_data(options.mnist, max(options.sizes)).name
    report.table(f"{name}, and fewer; tail_mass {options.tail_mass:g}", rows)
    exponents = {stage: _exponent(rows, stage) for stage in (*STAGES, "kept a row")}
    report.table("Exponents of N, by least squares of the logarithms", [exponents])
    report.table(
        "What it would take, by the cost model of cluster_model.py", cluster_rows(rows, options)
    )
    report.finish()


def _measure(n: int, options: Namespace) -> dict[str, Any]:
    X, _ = make_data(options.mnist, n)
    Y = spread_map(X)
    chosen = {"perplexity": options.perplexity, "tail_mass": options.tail_mass}
    with limited(options.threads), engine_of(X, **chosen) as engine:
        executor, rows = engine.job.executor, engine.plan.shard_rows
        rtol = engine.job.settings.repulsion_rtol
        # Minutes at the largest size: one round, whose code an earlier size has compiled.
        seconds = alternate(
            {"affinities": lambda: engine.objective(engine.calibrate())}, 1, warm_up=False
        )
        affinities = engine.calibrate()
        objective = engine.objective(affinities)

        def by_fourier() -> object:
            return start_repulsion(executor, Y, Y, rows, "fourier", rtol)()

        seconds |= alternate(
            {
                "attraction": partial(objective.attraction, Y),
                "repulsion": by_fourier,
                "evaluation": partial(objective, Y),
            },
            options.repeats,
        )
    kept = float(np.mean(affinities.calibration.kept))
    return {"N": n, "kept a row": round(kept), **seconds}


def _exponent(rows: list[dict[str, Any]], stage: str) -> float:
    values = [row[stage] for row in rows]
    medians = [value.median if isinstance(value, Spread) else value for value in values]
    if len(rows) == 1:
        return float("nan")
    return statistics.linear_regression(
        [np.log(row["N"]) for row in rows], [np.log(value) for value in medians]
    ).slope


if __name__ == "__main__":
    main()

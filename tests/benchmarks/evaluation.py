"""Time one evaluation of the cost and its gradient, against other packages and bare NumPy.

    python tests/benchmarks/evaluation.py --mnist mnist.npz --json evaluation.json

A size of 0 leaves a table out.
"""

import warnings
from argparse import Namespace
from dataclasses import replace
from functools import partial

import dask
import dask.array as da
import numpy as np
from common import (
    Report,
    alternate,
    available,
    limited,
    make_data,
    make_parser,
    spread_map,
)
from engine import engine_of
from peers import sklearn_iteration, torchdr_iteration
from plain_dask import make_step
from references import exponentials, products

from dasksne.repulsion import start_repulsion

AGREEMENT = 1e-6
"""Relative, of the cost that the plain step adds a smallest number to."""


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="against plain Dask and TorchDR")
    parser.add_argument("--n-exact", type=int, default=3_000, help="against scikit-learn")
    parser.add_argument("--n-recompute", type=int, default=20_000, help="against NumPy")
    parser.add_argument("--perplexity", type=float, default=30)
    parser.add_argument("--tail-mass", type=float, default=1e-3)
    options = parser.parse_args(arguments)
    report = Report("One evaluation: cost and gradient", options)
    # Of the plain step, which is as it would be written.
    warnings.filterwarnings("ignore", category=da.PerformanceWarning)
    with dask.config.set(num_workers=options.threads), limited(options.threads):
        if options.n:
            against_other_packages(report, options)
        if options.n_exact:
            against_scikit_learn(report, options)
        if options.n_recompute:
            against_numpy(report, options)
    report.finish()


def against_other_packages(report: Report, options: Namespace) -> None:
    X, name = make_data(options.mnist, options.n)
    Y, perplexity = spread_map(X), options.perplexity
    with (
        engine_of(X, perplexity=perplexity) as engine,
        engine_of(X, perplexity=perplexity, tail_mass=options.tail_mass) as cut,
    ):
        affinities = engine.calibrate()
        dense, sparse = engine.objective(affinities), cut.objective(cut.calibrate())
        step = make_step(X, affinities.calibration.precision)
        _require_agreement(dense(Y), *step(Y))
        ours = {
            "dasksne, dense P": partial(dense, Y),
            "dasksne, dense P, all pairs": partial(replace(dense, repulsion="direct"), Y),
            f"dasksne, tail_mass {options.tail_mass:g}": partial(sparse, Y),
        }
        peers = {"plain dask.array": partial(step, Y)} | available(
            report,
            {
                "TorchDR SNE, all of P, float64": lambda: torchdr_iteration(
                    X, perplexity, options.threads, sparsity=False
                ),
                "TorchDR SNE, its defaults": lambda: torchdr_iteration(
                    X.astype(np.float32), perplexity, options.threads
                ),
            },
        )
        _compare(report, f"{name}, perplexity {perplexity:g}", ours, peers, options)


def against_scikit_learn(report: Report, options: Namespace) -> None:
    X, name = make_data(options.mnist, options.n_exact)
    Y = spread_map(X)
    with engine_of(X, perplexity=options.perplexity) as engine:
        objective = engine.objective(engine.calibrate())
        peers = available(
            report,
            {'scikit-learn TSNE(method="exact")': lambda: sklearn_iteration(X, options.perplexity)},
        )
        _compare(report, name, {"dasksne, dense P": partial(objective, Y)}, peers, options)


def against_numpy(report: Report, options: Namespace) -> None:
    X, name = make_data(options.mnist, options.n_recompute)
    Y = spread_map(X)
    n, threads = len(X), options.threads
    with engine_of(X, p_storage="recompute", perplexity=options.perplexity) as engine:
        objective, executor = engine.objective(engine.calibrate()), engine.job.executor
        rows, rtol = engine.plan.shard_rows, engine.job.settings.repulsion_rtol

        def all_pairs() -> object:
            return start_repulsion(executor, Y, Y, rows, "direct", rtol)()

        seconds = alternate(
            {
                "product": lambda: products(X, threads),
                "exp": lambda: exponentials(n, threads),
                "recompute": partial(objective, Y),
                "pairs": all_pairs,
            },
            options.repeats,
        )
    exp, product, recompute = seconds["exp"], seconds["product"], seconds["recompute"]
    bare = product + exp + exp
    one_pass = seconds["pairs"].scaled(0.5, "s")
    per_pair = 1e9 * threads / n**2
    report.table(
        f"{name}: nothing of P kept, against bare NumPy",
        [
            {
                "what": what,
                "time": time,
                "a pair and core": time.scaled(per_pair, "ns"),
                "ratio": ratio,
            }
            for what, time, ratio in (
                ("X @ X.T in row blocks", product, ""),
                ("np.exp over N^2 float64", exp, ""),
                ("one product and two exp", bare, ""),
                ('dasksne, p_storage="recompute"', recompute, recompute / bare),
                ("dasksne, repulsion over all pairs, a pass", one_pass, one_pass / exp),
            )
        ],
    )


def _require_agreement(found, cost, gradient) -> None:
    """Stop unless both computed the same thing."""
    np.testing.assert_allclose(found.cost, cost, rtol=AGREEMENT)
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(found.gradient, gradient, atol=AGREEMENT * scale)


def _compare(report: Report, title: str, ours, peers, options: Namespace) -> None:
    """Time all in turn; a row for each, with the ratio of each peer to each of ours."""
    seconds = alternate({**ours, **peers}, options.repeats)
    report.table(
        title,
        [
            {"what": what, "time": seconds[what]}
            | {
                f"times faster: {own}": "" if what in ours else seconds[what] / seconds[own]
                for own in ours
            }
            for what in seconds
        ],
    )


if __name__ == "__main__":
    main()

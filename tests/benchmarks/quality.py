"""Judge the maps: final cost, work and neighbours kept, against other optimisers of the same cost.

    python tests/benchmarks/quality.py --data digits iris --seeds 10 --json quality.json
    python tests/benchmarks/quality.py --mnist mnist.npz --data mnist3000 --no-peers

All costs are computed from the same P by one literal function, in NumPy, entry by entry. scipy
minimises the package's own cost from the same starts; TorchDR has a start of its own, by PCA.
"""

import statistics
import time
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from unittest import mock

import dask
import numpy as np
import scipy.optimize
from common import (
    Report,
    available,
    limited,
    make_parser,
    principal_components,
    read_mnist,
)
from engine import engine_of
from peers import torchdr_fit
from scipy.special import logsumexp
from sklearn import datasets

import dasksne
from dasksne import metrics, stage

ROWS = 500
NEIGHBOURS = 10
DATA: dict[str, float] = {
    "digits": 30,
    "digits500": 30,
    "iris": 40,
    "swiss": 20,
    "gaussian": 30,
    "mnist3000": 30,
    "mnist7000": 30,
    "mnist70000": 30,
}
"""Names and perplexities."""


class Map(NamedTuple):
    Y: np.ndarray
    seconds: float
    evaluations: int | str
    builds: int | str
    """Of P."""


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    default = [name for name in DATA if not name.startswith("mnist")]
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=default)
    parser.add_argument("--seeds", type=int, default=10, help="random starts beside PCA")
    parser.add_argument("--tail-mass", type=float, default=0.0)
    parser.add_argument("--max-iter", type=int, default=240, help="of each stage")
    parser.add_argument("--annealing", choices=["auto", "none"], default="auto")
    parser.add_argument("--peers", action=BooleanOptionalAction, default=True)
    options = parser.parse_args(arguments)
    report = Report("The maps: final cost, work, neighbours kept", options)
    with (
        dask.config.set(scheduler="threads", num_workers=options.threads),
        limited(options.threads),
    ):
        for name in options.data:
            _judge(report, name, options)
    report.finish()


def _judge(report: Report, name: str, options: Namespace) -> None:
    X, perplexity = load(name, options), DATA[name]
    starts = {"PCA": {"init": "pca"}} | {
        f"seed {seed}": {"init": "random", "random_state": seed} for seed in range(options.seeds)
    }
    kinds = {"dasksne": {s: lambda c=c: fit(X, perplexity, c, options) for s, c in starts.items()}}
    if options.peers:
        kinds["scipy L-BFGS-B"] = {
            s: lambda c=c: scipy_fit(X, perplexity, c, options) for s, c in starts.items()
        }
        for peer, run in available(
            report, {"TorchDR SNE": lambda: torchdr_fit(X, perplexity, options.threads)}
        ).items():
            kinds[peer] = {"PCA": lambda run=run: timed(run)}
    found = {
        (kind, which): maps
        for kind, runs in kinds.items()
        for which, maps in _groups({start: attempt(run) for start, run in runs.items()}).items()
    }
    P = dasksne.conditional_probabilities(X, perplexity=perplexity)
    drawn = [each for maps in found.values() for each in maps if isinstance(each, Map)]
    costs = iter(literal_costs(P, [each.Y for each in drawn]))
    costs_of = {
        key: [next(costs) for each in maps if isinstance(each, Map)] for key, maps in found.items()
    }
    lowest = min(min(several) for several in costs_of.values() if several)
    rows = [
        {"what": kind, "start": which, **_summary(X, maps, costs_of[kind, which], lowest)}
        for (kind, which), maps in found.items()
    ]
    report.table(f"{name}, {len(X):,} points, perplexity {perplexity:g}", rows)


def _groups(found: dict[str, Map | str]) -> dict[str, list[Map | str]]:
    """Split into the start by PCA and all random ones together."""
    random = [each for start, each in found.items() if start != "PCA"]
    return {"PCA": [found["PCA"]]} | ({f"{len(random)} seeds": random} if random else {})


def _summary(
    X: np.ndarray, maps: list[Map | str], costs: list[float], lowest: float
) -> dict[str, Any]:
    failed = [each for each in maps if isinstance(each, str)]
    if failed:
        return dict.fromkeys(COLUMNS, "") | {"cost": failed[0]}
    kept = [metrics.neighbors_kept(X, each.Y, n_neighbors=NEIGHBOURS) for each in maps]
    trusted = [metrics.trustworthiness(X, each.Y, n_neighbors=NEIGHBOURS) for each in maps]
    columns = (
        f"{min(costs):.10g}" if len(costs) == 1 else f"{min(costs):.8g} to {max(costs):.8g}",
        f"{100 * (max(costs) / lowest - 1):.2g} %",
        _median(maps, "evaluations"),
        _median(maps, "builds"),
        f"{statistics.median(each.seconds for each in maps):.3g} s",
        f"{statistics.median(trusted):.4f}",
        f"{statistics.median(kept):.4f}",
    )
    return dict(zip(COLUMNS, columns, strict=True))


COLUMNS = (
    "cost",
    "the highest above the lowest of all",
    "evaluations",
    "builds of P",
    "time",
    "trustworthiness",
    f"neighbours kept ({NEIGHBOURS})",
)


def _median(maps: list[Map], field: str) -> str:
    """Return the median, and the largest where there are several."""
    values = [getattr(each, field) for each in maps]
    if not all(isinstance(value, int) for value in values):
        return ""
    median = f"{statistics.median(values):g}"
    return median if len(values) == 1 else f"{median} (at most {max(values)})"


def attempt(run: Callable[[], Map]) -> Map | str:
    """Return the map, or what went wrong: a peer may diverge."""
    try:
        return run()
    except ValueError as error:
        return f"failed: {str(error).splitlines()[0][:60]}"


def fit(X: np.ndarray, perplexity: float, chosen: dict[str, Any], options: Namespace) -> Map:
    model = dasksne.SNE(
        perplexity=perplexity,
        tail_mass=options.tail_mass,
        max_iter=options.max_iter,
        annealing=None if options.annealing == "none" else "auto",
        **chosen,
    )
    with mock.patch.object(stage, "start_calibration", wraps=stage.start_calibration) as build:
        began = time.perf_counter()
        model.fit(X)
        seconds = time.perf_counter() - began
    evaluations = int(model.history_["evaluations"][-1])
    return Map(model.embedding_, seconds, evaluations, build.call_count)


def scipy_fit(X: np.ndarray, perplexity: float, chosen: dict[str, Any], options: Namespace) -> Map:
    """Minimise the package's own cost with scipy and its defaults, from the package's start."""
    start = dasksne.SNE(perplexity=perplexity, annealing=None, max_iter=0, **chosen).fit(X)
    began = time.perf_counter()
    with engine_of(X, perplexity=perplexity, tail_mass=options.tail_mass) as engine:
        objective = engine.objective(engine.calibrate())
        shape = start.embedding_.shape

        def evaluate(y: np.ndarray) -> tuple[float, np.ndarray]:
            found = objective(y.reshape(shape))
            return found.cost, found.gradient.ravel()

        found = scipy.optimize.minimize(
            evaluate, start.embedding_.ravel(), jac=True, method="L-BFGS-B"
        )
    seconds = time.perf_counter() - began
    return Map(found.x.reshape(shape), seconds, int(found.nfev), 1)


def timed(run: Callable[[], np.ndarray]) -> Map:
    began = time.perf_counter()
    Y = run()
    return Map(np.asarray(Y, dtype=np.float64), time.perf_counter() - began, "", 1)


def literal_costs(P: Any, maps: Sequence[np.ndarray]) -> list[float]:
    """Return sum p log(p / q) of each map, with log q taken before q can underflow."""
    totals = [0.0] * len(maps)
    for start in range(0, P.shape[0], ROWS):
        rows = slice(start, min(start + ROWS, P.shape[0]))
        p = P[rows].compute()
        kept = p > 0
        for k, Y in enumerate(maps):
            squared = ((Y[rows, None] - Y) ** 2).sum(axis=2)
            squared[np.arange(len(squared)), np.arange(rows.start, rows.stop)] = np.inf
            log_q = -squared - logsumexp(-squared, axis=1, keepdims=True)
            totals[k] += float(np.sum(p[kept] * (np.log(p[kept]) - log_q[kept])))
    return totals


def load(name: str, options: Namespace) -> np.ndarray:
    if name.startswith("mnist"):
        if options.mnist is None:
            raise SystemExit(f"{name} needs --mnist PATH")
        X = read_mnist(options.mnist)
        n = int(name.removeprefix("mnist"))
        if n == len(X):
            return principal_components(X)
        return X[np.random.default_rng(0).permutation(len(X))[:n]]
    if name == "iris":
        return datasets.load_iris().data
    if name == "swiss":
        return datasets.make_swiss_roll(1000, random_state=0)[0]
    if name == "gaussian":
        return np.random.default_rng(0).standard_normal((1000, 100))
    return datasets.load_digits().data[: 500 if name == "digits500" else None]


if __name__ == "__main__":
    main()

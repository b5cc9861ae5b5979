"""Time data in to map out, with the memory it takes, against openTSNE with its defaults.

    python tests/benchmarks/end_to_end.py --mnist mnist.npz --n 70000 --json end_to_end.json
    python tests/benchmarks/end_to_end.py --n 250000 --p-storage zarr --no-peers

Each fit runs in a process of its own, one after the other; imports are not counted.
"""

from argparse import BooleanOptionalAction, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask
from common import Report, Spread, available, limited, make_data, make_parser
from peers import opentsne_fit, require
from watched import Watched, watch

from dasksne import SNE
from dasksne.estimate import estimate

COLUMNS = ("evaluations", "iterations of the last stage", "C / N", "C / N after half of them")


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, repeats=1)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--perplexity", type=float, default=30)
    parser.add_argument("--tail-mass", type=float, default=1e-3)
    parser.add_argument("--p-storage", default="auto")
    parser.add_argument("--annealing", choices=["auto", "none"], default="auto")
    parser.add_argument("--max-iter", type=int, default=240, help="of each stage")
    parser.add_argument("--seed", type=int, default=0, help="of the run")
    parser.add_argument("--peers", action=BooleanOptionalAction, default=True)
    options = parser.parse_args(arguments)
    report = Report("Data in, map out", options)
    fits = {"dasksne": prepare_dasksne}
    if options.peers:
        for name in available(report, {"openTSNE": lambda: require("openTSNE")}):
            fits[f"{name}, its defaults"] = prepare_opentsne
    found: dict[str, list[Watched]] = {name: [] for name in fits}
    for _ in range(options.repeats):
        for name, prepare in fits.items():
            found[name].append(watch(prepare, options))
    report.table(
        f"{make_data(options.mnist, options.n).name}, perplexity {options.perplexity:g}, "
        f"tail_mass {options.tail_mass:g}",
        [_row(name, runs, found["dasksne"]) for name, runs in found.items()],
    )
    for line in _predictions(options, found["dasksne"]):
        report.note(line)
    report.finish()


@contextmanager
def prepare_dasksne(options: Namespace) -> Iterator[Callable[[], dict[str, Any]]]:
    """Give a fit that returns what there is to say of it."""
    X = make_data(options.mnist, options.n).X

    def run() -> dict[str, Any]:
        model = _model(options).fit(X)
        stages = model.history_["stage"]
        costs = model.history_["cost"][stages == stages[-1]] / len(X)
        return {
            "evaluations": int(model.history_["evaluations"][-1]),
            "iterations of the last stage": costs.size,
            "C / N": costs[-1],
            "C / N after half of them": costs[(costs.size - 1) // 2],
            "plan": model.report_["memory_bytes"],
        }

    with (
        dask.config.set(scheduler="threads", num_workers=options.threads),
        limited(options.threads),
    ):
        yield run


@contextmanager
def prepare_opentsne(options: Namespace) -> Iterator[Callable[[], dict[str, Any]]]:
    """Give a fit of the peer, whose cost is another one."""
    fit = opentsne_fit(make_data(options.mnist, options.n).X, options.threads)

    def run() -> dict[str, Any]:
        fit()
        return {}

    with limited(options.threads):
        yield run


def _model(options: Namespace) -> SNE:
    return SNE(
        perplexity=options.perplexity,
        tail_mass=options.tail_mass,
        p_storage=options.p_storage,
        annealing=None if options.annealing == "none" else options.annealing,
        max_iter=options.max_iter,
        random_state=options.seed,
    )


def _row(name: str, runs: list[Watched], ours: list[Watched]) -> dict[str, Any]:
    seconds = _seconds(runs)
    return {
        "what": name,
        "time": seconds,
        "dasksne's time / this": "" if runs is ours else _seconds(ours) / seconds,
        "peak memory": Spread(tuple(run.peak_bytes / 1e9 for run in runs), "GB"),
        **{column: runs[0].value.get(column, "") for column in COLUMNS},
    }


def _seconds(runs: list[Watched]) -> Spread:
    return Spread(tuple(run.seconds for run in runs), "s")


def _predictions(options: Namespace, runs: list[Watched]) -> list[str]:
    """Say what `plan` said, beside what happened."""
    X = make_data(options.mnist, options.n).X
    model = _model(options)
    with (
        dask.config.set(scheduler="threads", num_workers=options.threads),
        limited(options.threads),
    ):
        time = estimate(model.plan(X), model)
    planned, peak = runs[0].value["plan"] / 1e9, max(run.peak_bytes for run in runs) / 1e9
    return [
        f"`plan` said {planned:.3g} GB; the peak was {peak:.3g} GB",
        (
            f"`plan` said {time.total:.3g} s: {time.stages} x {time.affinities:.3g} s of "
            f"affinities and {time.evaluations} evaluations of {time.evaluation:.3g} s; "
            f"it took {_seconds(runs)}"
        ),
    ]


if __name__ == "__main__":
    main()

"""Time the metrics of a map against scikit-learn, and watch their memory where its N^2 ends.

    python tests/benchmarks/metrics.py --mnist mnist.npz --json metrics.json

The map is the first two features. scikit-learn knows trustworthiness alone.
"""

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask
import sklearn.manifold
from common import Report, Spread, alternate, limited, make_data, make_parser, spread_map
from watched import watch

from dasksne import metrics

NEIGHBOURS = 10


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--n", type=int, default=5_000)
    parser.add_argument("--n-large", type=int, default=70_000)
    parser.add_argument("--large-repeats", type=int, default=1)
    options = parser.parse_args(arguments)
    report = Report("Metrics of a map", options)
    _compare(report, options)
    _grow(report, options)
    report.finish()


def _compare(report: Report, options: Namespace) -> None:
    """Time all of them, in turn with scikit-learn."""
    X, name = make_data(options.mnist, options.n)
    Y = spread_map(X)
    mine = contenders(X, Y)
    peer = "scikit-learn trustworthiness"
    given = {"n_neighbors": NEIGHBOURS}
    with dask.config.set(num_workers=options.threads), limited(options.threads):
        seconds = alternate(
            {**mine, peer: lambda: sklearn.manifold.trustworthiness(X, Y, **given)},
            options.repeats,
        )
        difference = abs(
            metrics.trustworthiness(X, Y, **given) - sklearn.manifold.trustworthiness(X, Y, **given)
        )
    per_pair = 1e9 * options.threads / len(X) ** 2
    report.table(
        f"{name}, {NEIGHBOURS} neighbours",
        [
            {
                "what": what,
                "time": time,
                "a pair and core": time.scaled(per_pair, "ns"),
                "scikit-learn / it": "" if what == peer else seconds[peer] / time,
            }
            for what, time in seconds.items()
        ],
    )
    report.note(f"trustworthiness differs by {difference:.1g}")


def _grow(report: Report, options: Namespace) -> None:
    """Watch each in a process of its own, where N^2 ranks would not fit."""
    rows = []
    for what in contenders(None, None):
        found = [watch(prepare, options, what) for _ in range(options.large_repeats)]
        rows.append(
            {
                "what": what,
                "time": Spread(tuple(each.seconds for each in found), "s"),
                "peak": Spread(tuple(each.peak_bytes / 1e6 for each in found), "MB"),
            }
        )
    report.table(make_data(options.mnist, options.n_large).name, rows)


@contextmanager
def prepare(options: Namespace, what: str) -> Iterator[Callable[[], int]]:
    X = make_data(options.mnist, options.n_large).X
    with dask.config.set(num_workers=options.threads), limited(options.threads):
        run = contenders(X, spread_map(X))[what]
        yield lambda: len(repr(run()))


def contenders(X: Any, Y: Any) -> dict[str, Callable[[], object]]:
    return {
        "trustworthiness": lambda: metrics.trustworthiness(X, Y, n_neighbors=NEIGHBOURS),
        "continuity": lambda: metrics.continuity(X, Y, n_neighbors=NEIGHBOURS),
        "quality curve": lambda: metrics.quality_curve(X, Y),
        "all by rank, as `info --quality`": lambda: metrics.quality(X, Y),
        "KL per point": lambda: metrics.kl_per_point(X, Y),
    }


if __name__ == "__main__":
    main()

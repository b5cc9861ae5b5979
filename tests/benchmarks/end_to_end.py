"""Time data in to map out, with the memory it takes, against openTSNE with its defaults.

    python tests/benchmarks/end_to_end.py --mnist mnist.npz --json end_to_end.json
    python tests/benchmarks/end_to_end.py --n 250000 --p-storage zarr --peers no --longer

Each fit runs in a process of its own, one after the other; imports are not counted.
"""

from argparse import BooleanOptionalAction, Namespace
from collections.abc import Callable
from typing import Any, NamedTuple

import dask
from common import Report, Spread, available, limited, make_data, make_parser
from peers import opentsne_fit
from watched import Watched, watch

from dasksne import SNE
from dasksne.estimate import estimate
from dasksne.plan import format_bytes


class Fit(NamedTuple):
    evaluations: int
    cost_per_point: float
    stopped: str
    plan_bytes: int


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, repeats=1)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--perplexity", type=float, default=30)
    parser.add_argument("--tail-mass", type=float, default=1e-3)
    parser.add_argument("--p-storage", default="auto")
    parser.add_argument("--max-iter", type=int, default=300, help="of each stage")
    parser.add_argument("--peers", action=BooleanOptionalAction, default=True)
    parser.add_argument(
        "--longer", action="store_true", help="also fit with twice as many iterations, for the cost"
    )
    options = parser.parse_args(arguments)
    report = Report("Data in, map out", options)
    fits = {"dasksne": (prepare_dasksne, options.max_iter)}
    if options.longer:
        fits["dasksne, twice the iterations"] = (prepare_dasksne, 2 * options.max_iter)
    if options.peers:
        peers = {"openTSNE, its defaults": lambda: _installed("openTSNE", prepare_opentsne)}
        fits |= {name: (prepare, 0) for name, prepare in available(report, peers).items()}
    found: dict[str, list[Watched]] = {name: [] for name in fits}
    for _ in range(options.repeats):
        for name, (prepare, max_iter) in fits.items():
            found[name].append(watch(prepare, options, max_iter))
    ours = _seconds(found["dasksne"])
    report.table(
        make_data(options.mnist, options.n).name,
        [_row(name, runs, ours) for name, runs in found.items()],
    )
    report.note(_predicted(options, found["dasksne"][0].value))
    report.finish()

"""Time what a graph of neighbours costs as P, by its entries, beside the same P given dense.

    python tests/benchmarks/graph.py --sizes 5000 20000 80000 --json graph.json

Each point of 100 blobs has edges to its nearest neighbours, with weights that fall with the
distance.
"""

from argparse import Namespace
from functools import partial
from typing import Any

import dask
import numpy as np
from common import Report, alternate, limited, make_data, make_parser, spread_map
from engine import engine_of
from scipy.sparse import csr_array
from sklearn.neighbors import kneighbors_graph

from dasksne.staging import Data, require_numbers


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, repeats=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 20_000, 80_000])
    parser.add_argument("--largest-dense", type=int, default=10_000)
    parser.add_argument("--neighbors", type=int, default=15)
    options = parser.parse_args(arguments)
    report = Report("A graph of neighbours as P", options)
    with dask.config.set(scheduler="threads", num_workers=options.threads):
        rows = [row for n in sorted(options.sizes) for row in _measure(n, options)]
    report.table(f"{options.neighbors} neighbours of each point", rows)
    report.finish()


def _measure(n: int, options: Namespace) -> list[dict[str, Any]]:
    X, _ = make_data(None, n)
    graph = csr_array(kneighbors_graph(X, options.neighbors, mode="distance"))
    graph.data = np.exp(-graph.data / np.median(graph.data))
    given: dict[str, Data] = {"sparse": require_numbers(graph, "affinities")}
    if n <= options.largest_dense:
        given["dense"] = graph.toarray()
    return [_times(name, P, spread_map(X), options) for name, P in given.items()]


def _times(name: str, P: Data, Y: np.ndarray, options: Namespace) -> dict[str, Any]:
    with limited(options.threads), engine_of(P, metric="affinities") as engine:
        objective = engine.objective(engine.calibrate())
        seconds = alternate(
            {
                "P to S": lambda: engine.objective(engine.calibrate()),
                "attraction": partial(objective.attraction, Y),
                "evaluation": partial(objective, Y),
            },
            options.repeats,
        )
    entries = 2e-9 * len(Y) * options.neighbors
    per_entry = seconds["attraction"].scaled(1.0 / entries, "ns")
    return {"N": len(Y), "P": name, **seconds, "attraction, an entry of S at most": per_entry}


if __name__ == "__main__":
    main()

"""Measure the driver's state, its checkpoint, and what checkpoints cost a run beside them.

    python tests/benchmarks/checkpoints.py --json checkpoints.json

The run maps a graph of neighbours: of the work beside a checkpoint, most is then the driver's own.
"""

import itertools
import statistics
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from common import SEED, Report, Spread, alternate, limited, make_parser
from scipy.sparse import csr_array
from sklearn.datasets import make_swiss_roll
from sklearn.neighbors import kneighbors_graph
from watched import watch

from dasksne import SNE, checkpoint
from dasksne.job import Event
from dasksne.optimise.lbfgs import LBFGS
from dasksne.optimise.state import State, state_to_dict, step
from dasksne.run import Run
from dasksne.types import Evaluation, FloatArray

CHECKPOINT_SECONDS = 30
STEPS = LBFGS().memory + 2
"""Until an optimiser's state is as large as it gets."""
NEIGHBORS = 15


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, repeats=3)
    parser.add_argument("--n", type=int, nargs="+", default=[20_000, 1_000_000])
    parser.add_argument("--n-run", type=int, default=1_000_000)
    parser.add_argument("--max-iter", type=int, default=120, help="of the run")
    parser.add_argument("--seconds", type=float, default=CHECKPOINT_SECONDS, help="between two")
    options = parser.parse_args(arguments)
    report = Report("Checkpoints", options)
    rows = [_checkpoint(n, options) for n in options.n]
    report.table("State of the driver, and its checkpoint", rows)
    with limited(options.threads):
        report.table(
            f"A graph of {NEIGHBORS} neighbours of each of {options.n_run:,} points, a checkpoint "
            f"every {options.seconds:g} s: iterations of a full state",
            [_run(options)],
        )
    report.finish()


def _checkpoint(n: int, options: Namespace) -> dict[str, Any]:
    """Measure the state of L-BFGS on a map of n points, and the writing of it."""
    watched = watch(prepare_steps, n)
    values = state_to_dict(_late_state(n))
    arrays = [np.asarray(v) for v in values.values() if isinstance(v, (np.ndarray, tuple))]
    with tempfile.TemporaryDirectory() as folder:
        run = Run.locate(Path(folder) / "run.zarr")
        run.create(overwrite=False)
        found = alternate({"save": lambda: checkpoint.save(run, values)}, options.repeats)["save"]
        name = run.state[checkpoint.POINTER][0]
        files = (Path(folder) / "run.zarr" / "checkpoints" / name).rglob("*")
        size = sum(file.stat().st_size for file in files if file.is_file())
    return {
        "N": n,
        "state": f"{sum(array.nbytes for array in arrays) / 1e6:,.0f} MB",
        "peak memory of its steps": f"{watched.peak_bytes / 1e6:,.0f} MB",
        "on disk": f"{size / 1e6:,.0f} MB",
        "checkpoint": found,
        f"share of {CHECKPOINT_SECONDS} s": found.scaled(100 / CHECKPOINT_SECONDS, "%"),
    }


@contextmanager
def prepare_steps(n: int) -> Iterator[Callable[[], None]]:
    """Give the steps until the state is full."""

    def run() -> None:
        _late_state(n)

    yield run


def _late_state(n: int) -> State:
    """Return a state that has all of its pairs, of a map and a cost that cost nothing else."""
    generator = np.random.default_rng(0)
    weights = generator.uniform(0.1, 4.0, size=(n, 2))

    def cost(y: FloatArray) -> Evaluation:
        return Evaluation(float(np.sum(weights * y**2)), 2.0 * weights * y)

    optimiser = LBFGS(max_iter=STEPS, tol=0.0)
    y = generator.normal(size=(n, 2))
    state = optimiser.start(y, cost(y))
    while state.stopped is None:
        state = step(optimiser, state, cost)
    return state


def _run(options: Namespace) -> dict[str, Any]:
    """Compare iterations beside which a checkpoint is written with those before and after."""
    events: list[Event] = []
    beside: set[int] = set()
    begin = checkpoint.Writer.begin

    def note(writer: checkpoint.Writer, values: dict[str, Any]) -> None:
        beside.add(len(events) - 1)
        begin(writer, values)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(checkpoint.Writer, "begin", note),
    ):
        SNE(
            metric="affinities",
            max_iter=options.max_iter,
            tol=0.0,
            annealing=None,
            store=Path(folder) / "run.zarr",
            checkpoint_seconds=options.seconds,
            callbacks=events.append,
        ).fit(_graph(options.n_run))
    # An iteration that took a second evaluation says nothing of checkpoints.
    taken = {
        k: later.seconds - event.seconds
        for k, (event, later) in enumerate(itertools.pairwise(events))
        if k > STEPS and later.evaluations - event.evaluations == 1
    }
    plain = [seconds for k, seconds in taken.items() if k not in beside]
    slowed = [seconds for k, seconds in taken.items() if k in beside]
    if not plain or not slowed:
        raise SystemExit(f"{len(slowed)} of {len(taken)} iterations had a checkpoint beside them")
    more = statistics.median(slowed) - statistics.median(plain)
    return {
        "an iteration": Spread(tuple(plain), "s"),
        "one beside a checkpoint": Spread(tuple(slowed), "s"),
        "checkpoints": len(slowed),
        "more": f"{more:.2f} s",
        f"share of {options.seconds:g} s": f"{100 * more / options.seconds:.2g} %",
    }


def _graph(n: int) -> csr_array:
    """Return weights that fall with the distance, of the nearest points on a rolled-up sheet."""
    X, _ = make_swiss_roll(n, random_state=SEED)
    graph = csr_array(kneighbors_graph(X, NEIGHBORS, mode="distance", n_jobs=-1))
    graph.data = np.exp(-graph.data / np.median(graph.data))
    return graph


if __name__ == "__main__":
    main()

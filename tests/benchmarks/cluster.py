"""Time two worker processes against one, a worker's death, a checkpoint and what is in it.

    python tests/benchmarks/cluster.py --mnist mnist.npz --json cluster.json

Scheduler, workers and driver are processes of one machine, and share its cores; seconds of CPU are
those that the system counts for each of them, imports and compilation left out.
"""

import os
import signal
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import Report, Spread, alternate, limited, make_data, make_parser
from distributed import Client
from distributed.deploy.subprocess import SubprocessCluster
from watched import watch

from dasksne import SNE, checkpoint
from dasksne.job import Event
from dasksne.optimise.lbfgs import LBFGS
from dasksne.optimise.state import State, state_to_dict, step
from dasksne.run import Run
from dasksne.types import Evaluation, FloatArray

WARM_UP = 300
"""Points of a first fit, which compiles."""
STORAGES = ["memory", "zarr", "recompute"]
CHECKPOINT_SECONDS = 30
STEPS = LBFGS().memory + 2
"""Until an optimiser's state is as large as it gets."""


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, repeats=1)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--tail-mass", type=float, default=1e-3)
    parser.add_argument("--perplexity", type=float, default=30)
    parser.add_argument("--max-iter", type=int, default=240, help="of each stage")
    parser.add_argument("--deaths", nargs="*", choices=STORAGES, default=STORAGES)
    parser.add_argument("--death-iter", type=int, default=20, help="of the run that loses a worker")
    parser.add_argument("--n-state", type=int, nargs="+", default=[20_000, 1_000_000])
    options = parser.parse_args(arguments)
    report = Report("On a cluster", options)
    X, name = make_data(options.mnist, options.n)
    title = f"{name}, perplexity {options.perplexity:g}, tail_mass {options.tail_mass:g}"
    with limited(1), cluster_of(1) as one, cluster_of(2) as two:
        report.table(
            f"{title}: one thread a worker process, all stages", _scaling(X, one, two, options)
        )
        report.table(
            f"{title}: the last stage alone, one worker of two killed in it",
            [_death(X, two, p_storage, options) for p_storage in options.deaths],
        )
    report.table(
        "State of the driver, and its checkpoint",
        [_checkpoint(n, options) for n in options.n_state],
    )
    report.finish()


@contextmanager
def cluster_of(n_workers: int) -> Iterator[Client]:
    """Have a scheduler and workers as processes, with code compiled."""
    with (
        SubprocessCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            worker_class="distributed.Worker",
            dashboard_address=":0",
            worker_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(n_workers)
        _compile(client)
        yield client


def _compile(client: Client) -> None:
    """Go through a small fit with each way of keeping S."""
    X, _ = make_data(None, WARM_UP)
    with client.as_current():
        for tail_mass in (0.0, 1e-2):
            SNE(perplexity=10, max_iter=2, tail_mass=tail_mass).fit(X)


def model(options: Namespace, **chosen: Any) -> SNE:
    given = {"tail_mass": options.tail_mass, "perplexity": options.perplexity}
    return SNE(**{**given, "max_iter": options.max_iter, **chosen})


def _scaling(X: np.ndarray, one: Client, two: Client, options: Namespace) -> list[dict[str, Any]]:
    """Return a row for one worker, for two, and for their ratio."""
    cpu: dict[str, list[dict[str, float]]] = {"one worker": [], "two workers": []}

    def fit(name: str, client: Client) -> None:
        before = _cpu_seconds(client)
        with client.as_current():
            model(options).fit(X)
        after = _cpu_seconds(client)
        cpu[name].append({part: after[part] - before[part] for part in after})

    contenders = {
        "one worker": lambda: fit("one worker", one),
        "two workers": lambda: fit("two workers", two),
    }
    seconds = alternate(contenders, options.repeats, warm_up=False)
    rows = []
    for name, found in cpu.items():
        parts = {
            f"CPU of {part}": Spread(tuple(each[part] for each in found), "s") for part in found[0]
        }
        rows.append({"what": name, "time": seconds[name], **parts})
    ratios = {name: rows[1][name] / rows[0][name] for name in rows[0] if name != "what"}
    return [*rows, {"what": "two / one", **ratios}]


def _cpu_seconds(client: Client) -> dict[str, float]:
    """Return the seconds that each kind of process has used so far."""
    workers = [_used(pid) for pid in client.run(os.getpid).values()]
    scheduler = _used(client.run_on_scheduler(os.getpid))
    return {"workers": sum(workers), "scheduler": scheduler, "driver": _used(os.getpid())}


def _used(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _death(X: np.ndarray, client: Client, p_storage: str, options: Namespace) -> dict[str, Any]:
    """Kill a worker in the middle of a run, and time the iterations around it."""
    gaps, befores, afters = [], [], []
    for _ in range(options.repeats):
        # A dead worker still counts among those that the cluster was asked for.
        client.cluster.scale(len(client.cluster.worker_spec) + 2 - len(client.nthreads()))
        client.wait_for_workers(2)
        _compile(client)
        times: list[float] = []
        victim = min(client.run(os.getpid).values())

        def note(event: Event, times: list[float] = times, victim: int = victim) -> None:
            times.append(time.perf_counter())
            if event.iteration == options.death_iter // 2:
                os.kill(victim, signal.SIGKILL)

        chosen = {"annealing": None, "max_iter": options.death_iter, "tol": 0.0}
        with client.as_current():
            model(options, p_storage=p_storage, callbacks=note, **chosen).fit(X)
        between = np.diff(times)
        k = options.death_iter // 2 - 1
        befores.append(statistics.median(between[:k]))
        gaps.append(between[k])
        afters.append(statistics.median(between[k + 1 :]))
    return {
        "S kept in": p_storage,
        "an iteration before": Spread(tuple(befores), "s"),
        "the one with the death": Spread(tuple(gaps), "s"),
        "an iteration after, on one worker": Spread(tuple(afters), "s"),
    }


def _checkpoint(n: int, options: Namespace) -> dict[str, Any]:
    """Measure the state of L-BFGS on a map of n points, and the writing of it."""
    watched = watch(prepare_steps, n)
    values = state_to_dict(_late_state(n))
    arrays = [value for value in values.values() if isinstance(value, np.ndarray)]
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
        f"share of a run, every {CHECKPOINT_SECONDS} s": found.scaled(
            100 / CHECKPOINT_SECONDS, "%"
        ),
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


if __name__ == "__main__":
    main()

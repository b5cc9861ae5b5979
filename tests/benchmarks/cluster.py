"""Time two worker processes against one, and a worker's death.

    python tests/benchmarks/cluster.py --mnist mnist.npz --json cluster.json

Scheduler, workers and driver are processes of one machine, and share its cores; seconds of CPU are
those that the system counts for each of them, imports and compilation left out.
"""

import os
import signal
import statistics
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
from common import Report, Spread, alternate, limited, make_data, make_parser
from distributed import Client
from distributed.deploy.subprocess import SubprocessCluster

from dasksne import SNE
from dasksne.job import Event

WARM_UP = 300
"""Points of a first fit, which compiles."""
STORAGES = ["memory", "zarr", "recompute"]


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, repeats=1)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--tail-mass", type=float, default=1e-3)
    parser.add_argument("--perplexity", type=float, default=30)
    parser.add_argument("--max-iter", type=int, default=240, help="of each stage")
    parser.add_argument("--deaths", nargs="*", choices=STORAGES, default=STORAGES)
    parser.add_argument("--death-iter", type=int, default=20, help="of the run that loses a worker")
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


if __name__ == "__main__":
    main()

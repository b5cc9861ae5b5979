"""Hold the memory that a fit takes at its peak against what its plan said.

    python tests/benchmarks/memory.py --mnist mnist.npz --json memory.json

Resident memory of all processes of the fit, beyond what they hold after their imports.
"""

import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import dask
from common import Report, Spread, limited, make_data, make_parser
from distributed import Client
from watched import watch

from dasksne import SNE
from dasksne.kernels.tiling import planned_grid_bytes
from dasksne.plan import make_plan

FITS: dict[str, tuple[str, dict[str, Any]]] = {
    "memory": ("P in memory", {}),
    "kept": ("P in memory, run kept", {"store": "run.zarr"}),
    "limited": ("memory_limit below P", {}),
    "recompute": ('p_storage="recompute"', {"p_storage": "recompute"}),
    "workers": ("P in memory of two worker processes", {"store": "run.zarr", "workers": 2}),
}


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, repeats=3)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--max-iter", type=int, default=5, help="of each stage")
    parser.add_argument("--fits", nargs="+", choices=list(FITS), default=list(FITS))
    options = parser.parse_args(arguments)
    report = Report("Peak memory of a fit, beside its plan", options)
    name = make_data(options.mnist, options.n).name
    report.table(name, [_measure(kind, options) for kind in options.fits])
    report.finish()


def _measure(kind: str, options: Namespace) -> dict[str, Any]:
    what, chosen = FITS[kind]
    if kind == "limited":
        limit = _less_than_p(options)
        what, chosen = f"memory_limit {limit / 1e6:,.0f} MB", {"memory_limit": limit}
    found = [watch(prepare, options, chosen) for _ in range(options.repeats)]
    plan = found[0].value
    peak = Spread(tuple(each.peak_bytes / 1e6 for each in found), "MB")
    planned = plan["memory_bytes"] / 1e6
    return {
        "fit": what,
        "S kept in": plan["p_storage"],
        "plan": f"{planned:,.0f} MB",
        "peak": peak,
        "peak / plan": peak.scaled(1 / planned, ""),
    }


def _less_than_p(options: Namespace) -> int:
    """Return bytes that the fit can do with, if it keeps P elsewhere."""
    plan = make_plan(
        options.n,
        50,
        2,
        x_bytes=8 * 50 * options.n,
        n_threads=options.threads,
        memory_limit=2**60,
        disk_found=2**60,
        keeps_p=False,
        keeps_x=False,
        grid_bytes=planned_grid_bytes(options.n, 2),
        p_storage="zarr",
    )
    return plan.memory_bytes + plan.p_bytes // 4


@contextmanager
def prepare(options: Namespace, chosen: dict[str, Any]) -> Iterator[Callable[[], dict[str, Any]]]:
    """Give a fit that returns its plan."""
    chosen = dict(chosen)
    store = chosen.pop("store", None)
    X = make_data(options.mnist, options.n).X
    with tempfile.TemporaryDirectory() as folder, _executor(chosen.pop("workers", 0), options):
        model = SNE(max_iter=options.max_iter, **chosen)
        model.set_params(store=None if store is None else str(Path(folder) / store))
        yield lambda: model.fit(X).report_


@contextmanager
def _executor(workers: int, options: Namespace) -> Iterator[None]:
    if workers:
        with Client(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as client:
            client.run(import_module, "dasksne.estimator")
            yield
    else:
        with (
            dask.config.set(scheduler="threads", num_workers=options.threads),
            limited(options.threads),
        ):
            yield


if __name__ == "__main__":
    main()

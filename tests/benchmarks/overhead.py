"""Time what worker processes cost over threads, and count the bytes that a step sends.

    python tests/benchmarks/overhead.py --mnist mnist.npz --json overhead.json

Bytes are those on the sockets of client and scheduler, which share a process here; what one says to
the other counts once.
"""

import contextlib
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from unittest import mock

import dask
import numpy as np
from common import Report, alternate, limited, make_data, make_parser, spread_map
from distributed import Client, LocalCluster
from engine import engine_of
from tornado.iostream import IOStream

LARGE_SHARDS = 64


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--n-large", type=int, default=0, help=f"in {LARGE_SHARDS} shards")
    parser.add_argument("--shards", type=int, nargs="*", default=[2, 16, 64], help="for the bytes")
    parser.add_argument("--tail-mass", type=float, default=1e-3)
    options = parser.parse_args(arguments)
    report = Report("Worker processes instead of threads, one evaluation", options)
    with (
        limited(options.threads),
        LocalCluster(
            n_workers=options.threads, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        X, name = make_data(options.mnist, options.n)
        rows = [_overhead(client, X, name, {}, options)]
        if options.n_large:
            X, name = make_data(options.mnist, options.n_large)
            chosen = {"tail_mass": options.tail_mass, "shards": LARGE_SHARDS}
            rows.append(_overhead(client, X, name, chosen, options))
        report.table("Time", rows)
        X, name = make_data(options.mnist, options.n)
        report.table(
            f"Bytes through scheduler and client per evaluation: {name}",
            [_traffic(client, X, shards, options) for shards in options.shards],
        )
    report.finish()


def _overhead(client: Client, X: np.ndarray, name: str, chosen: dict, options: Namespace) -> dict:
    Y = spread_map(X)
    with ExitStack() as stack:
        with dask.config.set(scheduler="threads", num_workers=options.threads):
            threaded = stack.enter_context(engine_of(X, **chosen))
            here = threaded.objective(threaded.calibrate())
        with client.as_current():
            spread = stack.enter_context(engine_of(X, **chosen))
            there = spread.objective(spread.calibrate())
        seconds = alternate(
            {"threads": lambda: here(Y), "processes": lambda: there(Y)}, options.repeats
        )
        shards = spread.plan.shards
    more = (seconds["processes"] - seconds["threads"]).scaled(1e3, "ms")
    return {"data": name, "shards": shards} | seconds | {"more": more}


def _traffic(client: Client, X: np.ndarray, shards: int, options: Namespace) -> dict:
    Y = spread_map(X)
    allowed = 4 * Y.nbytes
    chosen = {"shards": shards, "block_rows": -(-len(X) // shards), "tail_mass": options.tail_mass}
    with client.as_current(), engine_of(X, **chosen) as engine:
        objective = engine.objective(engine.calibrate())
        objective(Y)
        with counted_bytes() as count:
            for _ in range(options.repeats):
                objective(Y)
        tasks = engine.plan.shards
    sent = sum(count) / options.repeats
    return {"shards": tasks, "bytes": round(sent), "4 N d 8": allowed, "ratio": sent / allowed}


@contextlib.contextmanager
def counted_bytes() -> Iterator[list[int]]:
    """Collect the bytes that sockets of this process write, and read from other processes."""
    count: list[int] = []
    write, read = IOStream.write_to_fd, IOStream.read_from_fd
    known = set()

    def counted_write(stream: IOStream, data: memoryview) -> int:
        known.add(stream.socket.getsockname())
        n = write(stream, data)
        count.append(n)
        return n

    def counted_read(stream: IOStream, buffer: bytearray | memoryview) -> int | None:
        n = read(stream, buffer)
        if n and stream.socket.getpeername() not in known:
            count.append(n)
        return n

    with (
        mock.patch.object(IOStream, "write_to_fd", counted_write),
        mock.patch.object(IOStream, "read_from_fd", counted_read),
    ):
        yield count


if __name__ == "__main__":
    main()

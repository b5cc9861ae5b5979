"""A function in a process of its own, with the most memory that it takes."""

import itertools
import multiprocessing
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeAlias

import psutil

INTERVAL = 0.02
"""Seconds between two looks at the memory."""
LOOKS = 50
"""Between two searches for children, each of which looks through all processes of the machine."""

Prepared: TypeAlias = AbstractContextManager[Callable[[], Any]]


class Watched(NamedTuple):
    value: Any
    seconds: float
    peak_bytes: int
    """Resident in the process and its children, beyond what they held when the work began."""


def watch(prepare: Callable[..., Prepared], *arguments: Any) -> Watched:
    """Enter prepare(*arguments) in a new process, then watch what it gives at work.

    What `prepare` imports, loads and starts is not counted.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, prepare, arguments))
    process.start()
    there.close()  # so that the end of the process is that of the pipe
    try:
        _receive(here, process)  # it is ready
        family = _family(process.pid)
        before = peak = _resident(family)
        here.send("go")
        for look in itertools.count(1):
            if here.poll(INTERVAL):  # also at its end
                break
            if look % LOOKS == 0:
                family = _family(process.pid)
            peak = max(peak, _resident(family))
        value, seconds = _receive(here, process)
    finally:
        process.join()
    return Watched(value, seconds, peak - before)


def _work(pipe: Connection, prepare: Callable[..., Prepared], arguments: tuple[Any, ...]) -> None:
    with prepare(*arguments) as run:
        pipe.send("ready")
        pipe.recv()
        began = time.perf_counter()
        value = run()
        pipe.send((value, time.perf_counter() - began))


def _receive(pipe: Connection, process: Any) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        process.join()
        raise SystemExit(f"the measured process ended with {process.exitcode}") from None


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _resident(family: list[psutil.Process]) -> int:
    total = 0
    for process in family:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total

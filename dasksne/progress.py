"""Progress: a line that is rewritten on a terminal or in a notebook, plain lines in a log."""

import math
import shutil
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Self

import numpy as np

from dasksne.job import Event

LOG_SECONDS = 5.0
"""Between lines where there is no terminal."""
TERMINAL_SECONDS = 0.1
NOTEBOOK_SECONDS = 1.0
"""A notebook may keep every line that was rewritten."""
CLEAR_LINE = "\r\x1b[2K"
SECONDS = (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3))


class Reporter:
    """Calls the user's callbacks, and writes progress to standard error where asked.

    What happened last is written when the reporter is closed, however soon after another line.
    """

    def __init__(
        self, callbacks: Sequence[Callable[[Event], bool | None]], *, verbose: int
    ) -> None:
        self._callbacks = callbacks
        self._verbose = verbose
        self._terminal = sys.stderr.isatty()
        self._notebook = type(sys.stderr).__module__.startswith("ipykernel.")
        self._written: float | None = None
        """When a line was last written."""
        self._width = 0
        """Of that line."""
        self._last = ""
        """What happened last, without the time left."""
        self._pace = _Pace(None, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._last:
            self._write(self._last)
            if self._terminal or self._notebook:
                sys.stderr.write("\n")

    def work_began(self, work: str) -> None:
        """Report work that goes before all stages: at once, as nobody knows how long it takes."""
        self._report(work, None)
        self._written = None  # what comes next is told at once, too

    def blocks_done(self, work: str, stage: int, n_stages: int, done: int, total: int) -> None:
        """Report work of a stage that goes by row blocks."""
        self._report(
            f"stage {stage + 1}/{n_stages}: {work}, {done} of {total} row blocks",
            self._seconds_left((work, stage), done, total),
        )

    def step_done(self, event: Event) -> bool:
        """Report an iteration; return whether a callback wants to stop."""
        # A run with a given sigma has no perplexity.
        perplexity = "" if math.isnan(event.perplexity) else f"perplexity {event.perplexity:.4g}, "
        self._report(
            f"stage {event.stage + 1}/{event.n_stages}: {perplexity}"
            f"iteration {event.iteration}, cost {event.cost:.6g}, "
            f"gradient {event.gradient_norm:.2g}",
            self._seconds_left(("iterations", event.stage), event.iteration, event.max_iter),
        )
        wishes = [callback(event) for callback in self._callbacks]
        return any(isinstance(wish, (bool, np.bool_)) and bool(wish) for wish in wishes)

    def _seconds_left(self, work: Hashable, done: int, total: int) -> float | None:
        """Return how long the rest of a stage's work takes, at most, at its own pace so far."""
        if work != self._pace.work:
            self._pace = _Pace(work, done)
        return self._pace.seconds(total - done, done)

    def _report(self, line: str, seconds_left: float | None) -> None:
        if not self._verbose:
            return
        self._last = line
        if self._written is None or time.monotonic() - self._written >= self._interval:
            if seconds_left is not None:
                line += f", at most {format_seconds(seconds_left)} left in this stage"
            self._write(line)
            self._written = time.monotonic()

    @property
    def _interval(self) -> float:
        if self._terminal:
            return TERMINAL_SECONDS
        return NOTEBOOK_SECONDS if self._notebook else LOG_SECONDS

    def _write(self, line: str) -> None:
        if self._terminal:
            # A line that wraps could not be taken back.
            line = CLEAR_LINE + line[: shutil.get_terminal_size().columns - 1]
        elif self._notebook:
            # Notebooks know no code that clears a line: blanks cover what was longer.
            line, self._width = "\r" + line.ljust(self._width), len(line)
        else:
            line += "\n"
        sys.stderr.write(line)
        sys.stderr.flush()


class _Pace:
    """How fast a piece of work goes since it was first heard of."""

    def __init__(self, work: Hashable, done: int) -> None:
        self.work = work
        self._done = done
        self._began = time.monotonic()

    def seconds(self, todo: int, done: int) -> float | None:
        """Return how long the rest will take; None while nothing is known."""
        if done == self._done:
            return None
        return todo * (time.monotonic() - self._began) / (done - self._done)


def format_seconds(seconds: float) -> str:
    """Return a duration as people read it.

    Examples
    --------
    >>> format_seconds(0.0123), format_seconds(59), format_seconds(5400)
    ('12 ms', '59 s', '1.5 h')
    """
    unit, length = next((pair for pair in SECONDS if seconds >= pair[1]), SECONDS[-1])
    count = seconds / length
    return f"{count:.0f} {unit}" if count >= 10.0 else f"{count:.1f} {unit}"

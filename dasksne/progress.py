"""Progress: a line that is rewritten on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Sequence

from dasksne.job import Event

LOG_SECONDS = 5.0
"""Between lines where there is no terminal."""
TERMINAL_SECONDS = 0.1


class Reporter:
    """Calls the user's callbacks, and writes progress to standard error where asked."""

    def __init__(
        self, callbacks: Sequence[Callable[[Event], bool | None]], *, verbose: int
    ) -> None:
        self._callbacks = callbacks
        self._verbose = verbose
        self._last = -1e9

    def blocks_done(self, stage: int, n_stages: int, done: int, total: int) -> None:
        """Report the affinities of a stage."""
        self._write(
            f"stage {stage + 1}/{n_stages}: affinities {done}/{total} row blocks",
            ends=done == total,
        )

    def step_done(self, event: Event) -> bool:
        """Report an iteration; return whether a callback wants to stop."""
        left = (event.max_iter - event.iteration) * event.seconds / max(1, event.evaluations)
        self._write(
            f"stage {event.stage + 1}/{event.n_stages} (perplexity {event.perplexity:.4g}): "
            f"iteration {event.iteration}/{event.max_iter}, cost {event.cost:.6g}, "
            f"gradient {event.gradient_norm:.3g}, at most {left:.0f} s left in this stage",
            ends=False,
        )
        wishes = [callback(event) for callback in self._callbacks]
        return any(wish is True for wish in wishes)

    def _write(self, text: str, *, ends: bool) -> None:
        if not self._verbose:
            return
        terminal = sys.stderr.isatty()
        now = time.monotonic()
        if not ends and now - self._last < (TERMINAL_SECONDS if terminal else LOG_SECONDS):
            return
        self._last = now
        sys.stderr.write(f"\r\x1b[2K{text}" if terminal else f"{text}\n")
        sys.stderr.flush()

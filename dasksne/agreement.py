"""Whether all who work on a run compute the same bits; where not, the user is told."""

import warnings
from collections.abc import Sequence

from dasksne.executor import Executor
from dasksne.executor.blas import one_blas_thread
from dasksne.kernels.signature import kernels_hash
from dasksne.run import Run

PROMISE = "the map will be close to what one kind of machine gives, not the same to the bit"


def compare_workers(executor: Executor, workers: Sequence[str] | None = None) -> None:
    """Warn where workers, those given or all, make other bits of a fixed input than we do here."""
    found = executor.on_each_worker(_hash, workers)
    if not found:
        return
    own = _hash()
    others = sorted(address for address, theirs in found.items() if theirs != own)
    if others:
        warnings.warn(
            f"{len(others)} workers compute other last bits than this process, the first of them "
            f"{others[0]}: other library versions or CPUs; {PROMISE}",
            stacklevel=4,
        )


def compare_with_start(run: Run) -> None:
    """Warn where the machine that a run began on made other bits; the hash is kept in the run."""
    own = _hash()
    before = run.state.get("kernels")
    if before is None:
        run.update(kernels=own)
    elif before != own:
        warnings.warn(
            f"{run.url} began on a machine with other library versions or another CPU, which "
            f"computes other last bits; {PROMISE}",
            stacklevel=4,
        )


def _hash() -> str:
    with one_blas_thread():
        return kernels_hash()

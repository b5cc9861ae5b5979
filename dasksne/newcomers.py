"""Workers that come while a run is under way: what held for the first must hold for them."""

from collections.abc import Iterator
from contextlib import contextmanager

from dasksne.agreement import compare_workers
from dasksne.errors import ClusterError, StoreError
from dasksne.executor import Executor
from dasksne.job import Job
from dasksne.reach import blind_workers
from dasksne.run import Run


def look_at_newcomers(executor: Executor, run: Run | None, *, now: bool = False) -> None:
    """Look at the workers that came since the last look.

    One that computes other last bits is told of, as at the start.

    Parameters
    ----------
    executor : Executor
    run : Run or None
        That tasks read and write; None where only this process does.
    now : bool
        Whether to look although somebody has just looked.

    Raises
    ------
    ClusterError
        They are not set up as this process is.
    StoreError
        They do not see the run.
    """
    new = executor.newcomers(now=now)
    if not new:
        return
    blind = [] if run is None else blind_workers(executor, run, new)
    if run is not None and blind:
        raise StoreError(
            f"{len(blind)} workers that came while the run was under way do not see {run.url}, the "
            f"first of them {blind[0]}, where the others read and write; stop them, or have them "
            "see it"
        )
    compare_workers(executor, new)


@contextmanager
def explained_by_newcomers(job: Job) -> Iterator[None]:
    """Let what is wrong with a worker that just came be the error, where there is one."""
    try:
        yield
    except ClusterError:
        raise
    except Exception:
        job.look_at_newcomers(now=True)
        raise

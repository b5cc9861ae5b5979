"""What a user is told when a run stops before its end."""

import errno
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from dasksne.errors import ClusterError, ResourceError, StoreError
from dasksne.plan import Plan, format_bytes
from dasksne.run import Run

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def telling_of_blocks(plan: Plan) -> Iterator[None]:
    """Add to what finds too little memory what a row block needs, and what to do."""
    try:
        yield
    except ResourceError as error:
        error.add_note(
            f"a block of {plan.block_rows} rows needs about {format_bytes(plan.block_bytes)}: give "
            "workers more memory or fewer threads each, or start anew with a smaller block_rows="
        )
        raise


@contextmanager
def telling_how_to_go_on(run: Run) -> Iterator[None]:
    """Add to what stops a kept run how to go on with it, and name a disk that is full."""
    how = f"the run is kept; go on with: dasksne resume {shlex.quote(run.url)}"
    try:
        yield
    except (KeyboardInterrupt, ClusterError, ResourceError, StoreError) as reason:
        reason.add_note(how)
        raise
    except OSError as error:
        if error.errno not in FULL:
            raise
        full = StoreError(f"the disk of {run.url} is full")
        full.add_note(f"{how}, once there is room")
        raise full from error

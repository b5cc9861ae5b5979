"""How much memory this process may still take."""

import psutil
from distributed.system import memory_limit


def available_memory() -> int:
    """Return bytes: what the machine has free, within the limits of the container or user."""
    own = psutil.Process().memory_info().rss
    return int(min(psutil.virtual_memory().available, memory_limit() - own))

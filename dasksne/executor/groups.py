"""Items that go to a task together: of those that a worker holds, a share for each thread.

To its scheduler and its worker a task costs some milliseconds, whatever it does.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from distributed import Client, Future


class Grouped(NamedTuple):
    """The results of all items, of which each task returns those of its group."""

    groups: list[list[int]]
    """Numbers of the items of each task."""
    tasks: list[Future]

    def in_order(self, found: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the results in the order of the items, from those of each task."""
        results: list[Any] = [None] * sum(len(group) for group in self.groups)
        for group, own in zip(self.groups, found, strict=True):
            for k, result in zip(group, own, strict=True):
                results[k] = result
        return results


class Holders:
    """Which workers hold which items, as the last look found; what has moved since is brought."""

    def __init__(self, threads: Mapping[str, int]) -> None:
        self.renew(threads)

    def renew(self, threads: Mapping[str, int]) -> None:
        """Look again when next asked, at workers of which so many threads are known.

        Not only when workers have changed: after a loss there are copies for a while, of which Dask
        keeps any.
        """
        self._threads = threads
        self._holders: Mapping[Any, Collection[str]] = {}

    def groups(self, client: Client, items: Sequence[Future]) -> list[list[int]]:
        """Share out the numbers of items among the threads of the workers that hold them.

        An item that is lost, and not made again yet, goes alone, to wherever that will be.
        """
        if not self._holders.keys() >= {item.key for item in items}:
            self._holders = {key: at for key, at in client.who_has(list(items)).items() if at}
        held: dict[str, list[int]] = {}
        alone = []
        for k, item in enumerate(items):
            if item.key in self._holders:
                held.setdefault(min(self._holders[item.key]), []).append(k)
            else:
                alone.append([k])
        shares = [(own, min(len(own), self._threads.get(at, 1))) for at, own in held.items()]
        return [*(part.tolist() for own, n in shares for part in np.array_split(own, n)), *alone]

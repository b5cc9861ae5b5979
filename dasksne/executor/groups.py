"""Items that go to a task together: of those that a worker holds, a share for each thread.

To its scheduler and its worker a task costs some milliseconds, whatever it does.
"""

import itertools
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
        results = zip(itertools.chain(*self.groups), itertools.chain(*found), strict=True)
        return [result for _, result in sorted(results, key=lambda pair: pair[0])]


class Places:
    """Where items are, as far as is known: one that has moved is brought, which costs time only."""

    def __init__(self, threads: Mapping[str, int]) -> None:
        self._threads = threads
        self._holders: Mapping[Any, Collection[str]] = {}

    def look_at(self, threads: Mapping[str, int]) -> None:
        """Forget where items are if workers, of which so many threads are known, have changed."""
        if threads != self._threads:
            self._threads, self._holders = threads, {}

    def groups(self, client: Client, items: Sequence[Future]) -> list[list[int]]:
        """Share out the numbers of items among the threads of the workers that hold them."""
        if not self._holders.keys() >= {item.key for item in items}:
            # One that is lost and not made again yet has no holder, and is looked for next time.
            self._holders = {key: at for key, at in client.who_has(list(items)).items() if at}
        held: dict[str, list[int]] = {}
        for k, item in enumerate(items):
            held.setdefault(min(self._holders.get(item.key, ""), default=""), []).append(k)
        shares = [(own, min(len(own), self._threads.get(at, 1))) for at, own in held.items()]
        return [part.tolist() for own, n in shares for part in np.array_split(own, n)]

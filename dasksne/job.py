"""The nouns of a run under way: the job, what a watcher sees of it, what it found."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from dasksne.executor import Executor
from dasksne.optimise.schedule import EARLY_ITERATIONS, Stage, coarse_stages, stages
from dasksne.plan import Plan
from dasksne.run import Run
from dasksne.settings import Settings
from dasksne.source import Source
from dasksne.tails import Tails
from dasksne.types import FloatArray

HISTORY = (
    "stage",
    "perplexity",
    "cost",
    "gradient_norm",
    "step",
    "evaluations",
    "seconds",
)
"""Columns of the history, a row per iteration."""


NOTHING = 1e-9
"""Nats a point: a constant map of a lower cost leaves nothing to explain."""
LARGEST_ANNEALED = 20_000
"""Points that annealing="auto" anneals: each stage computes all of P, and the first ones keep it
whole. With more points, the start races against a spectral one; see `starts.spectral_rival`."""
RANDOM_RIVALS = 4
"""Random starts of init="best"."""
ANNEALED = ("pca", "random", "best")
"""Starts that annealing="auto" anneals from; it would undo what any other one brings."""


def is_too_large_to_anneal(settings: Settings, n_points: int) -> bool:
    """Say whether points that "auto" would anneal are too many."""
    return (
        n_points > LARGEST_ANNEALED
        and settings.annealing == "auto"
        and isinstance(settings.init, str)
        and settings.init in ANNEALED
        and settings.optimizer == "lbfgs"
    )


def make_schedule(settings: Settings, n_points: int, *, coarse: bool = False) -> tuple[Stage, ...]:
    """Return the stages of a run; a given sigma, and a given P, have one perplexity.

    With coarse=True there is a coarse stage before.

    Raises
    ------
    InvalidInputError
        A perplexity on the way does not go with N points.
    """
    if coarse:
        perplexity = np.nan if settings.perplexity is None else settings.perplexity
        return coarse_stages(perplexity, tol=settings.tol, max_iter=settings.max_iter)
    if settings.perplexity is None:
        return (Stage(np.nan, settings.tol, settings.max_iter),)
    annealing = settings.annealing
    undone = not (isinstance(settings.init, str) and settings.init in ANNEALED)
    if annealing == "auto" and (undone or n_points > LARGEST_ANNEALED):
        annealing = None
    return stages(
        annealing,
        settings.perplexity,
        settings.n_counted(n_points),
        tol=settings.tol,
        max_iter=settings.max_iter,
        # Momentum takes many more, and shakes the map in the first of them.
        early_iterations=EARLY_ITERATIONS if settings.optimizer == "lbfgs" else math.inf,
    )


class Event(NamedTuple):
    """What a watcher and a callback see after each iteration."""

    stage: int
    """From 0."""
    n_stages: int
    perplexity: float
    """Of this stage; NaN where sigma is given, or P itself."""
    iteration: int
    """In this stage; starts that race have theirs together."""
    max_iter: int
    """Of this stage at most, those of racing starts counted one by one."""
    cost: float
    gradient_norm: float
    step: float
    """Largest distance that a point moved."""
    evaluations: int
    """Over all stages."""
    seconds: float
    embedding: FloatArray


class Watcher(Protocol):
    """Somebody who looks on while a run goes its way."""

    def work_began(self, work: str) -> None:
        """See that work on all of X begins, before the first stage."""
        ...

    def blocks_done(self, work: str, stage: int, n_stages: int, done: int, total: int) -> None:
        """See how many row blocks of some work other than iterations are done."""
        ...

    def step_done(self, event: Event) -> bool:
        """See an iteration; return True to stop the run."""
        ...


class Outcome(NamedTuple):
    """What a run found."""

    embedding: FloatArray
    cost: float
    constant_cost: float
    """Of a map with all points in one place: N log(N - 1) less the entropies of P's rows.

    Here and in the cost, points that count several times are so many."""
    n_iter: int
    history: dict[str, FloatArray]
    stopped: str
    """Why the last stage ended."""
    unreached: int
    """Rows whose perplexity cannot be reached."""
    tails: Tails | None
    """What dropping tails did; None where none were dropped."""

    @property
    def share_explained(self) -> float:
        """Of the constant map's cost; NaN where that is zero, up to rounding: P is constant too."""
        return share_explained(self.cost, self.constant_cost, len(self.embedding))


def share_explained(cost: float, constant_cost: float, n_points: int) -> float:
    """Return the share of the constant map's cost that a map explains; see `Outcome`."""
    return np.nan if constant_cost <= NOTHING * n_points else 1.0 - cost / constant_cost


@dataclass
class Job:
    """A run under way: what its stages share."""

    executor: Executor
    source: Source
    settings: Settings
    plan: Plan
    schedule: tuple[Stage, ...]
    run: Run | None
    """Where S may be kept; None where everything is in memory."""
    keeps: bool
    """Whether the run stays when it is done, with checkpoints on the way."""
    watcher: Watcher
    stopped: bool = False
    """Whether the watcher has stopped the run."""
    shares_run: bool = True
    """Whether tasks reach the run; where not, this process writes what they find."""
    look_at_newcomers: Callable[..., None] = lambda **_: None
    """To be called now and then; see `newcomers.look_at_newcomers`."""
    history: list[tuple[float, ...]] = field(default_factory=list)
    spent: int = 0
    """Iterations of the stages before, and in this one of starts that lost the race."""
    seconds: float = 0.0
    """Spent before this process went on with the run."""
    began: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)

    @property
    def n_stages(self) -> int:
        """Of the whole run."""
        return len(self.schedule)

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, over all processes that went on with it."""
        return self.seconds + time.monotonic() - self.began

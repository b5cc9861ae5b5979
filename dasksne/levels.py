"""Which points are mapped before the others where there are too many to anneal all of them.

Some sets of landmarks are annealed, each on its own, and every one gives a start for the map of the
middle set, which they are all part of. These starts race; the map of the winner places all others.
Sets that small end in one of many arrangements, and there it is decided what the full map costs:
four of them, compared on points that all can be judged by, are worth more than a larger one. (All
of MNIST, C / N 4.178, by evaluations of all points: 10 to 25 from the best of four sets of 5,000;
20 to 75 from one of 10,000, and from one in four not at all.)
"""

import math
from typing import NamedTuple

from dasksne.job import ANNEALED, LARGEST_ANNEALED
from dasksne.optimise.schedule import LANDMARK_TOL, Stage, landmark_stages
from dasksne.settings import PAIRWISE, Settings

SETS = 4
"""Of landmarks."""
LANDMARKS = 5_000
"""In a set, or more where that is too few for the perplexity."""
FEWEST_NEIGHBOURS = 2.0
"""Perplexity of a set of landmarks at least: below it their map falls into pieces."""
MIDDLE = 4
"""Times the landmarks: the middle set."""
RTOL = 1e-2
"""Allowed to the repulsion's rows at least: the map is only a start. (Its rows are far better, and
the sums take a third less time than at 1e-8.)"""
LARGEST_MIDDLE = 0.75
"""Of all points: beyond it a middle set would save nothing."""


class Level(NamedTuple):
    """Points that are mapped together before the others are."""

    n_points: int
    schedule: tuple[Stage, ...]
    """Its last perplexity stands for that of the run at this number of points."""

    @property
    def perplexity(self) -> float:
        """Of its last stage."""
        return self.schedule[-1].perplexity


class Levels(NamedTuple):
    """What is mapped before all of the points."""

    n_sets: int
    landmarks: Level
    """Of each set."""
    middle: Level

    @property
    def n_stages(self) -> int:
        """Of the sets, which go through theirs side by side, and of the middle one."""
        return len(self.landmarks.schedule) + len(self.middle.schedule)

    @property
    def n_rows(self) -> int:
        """Of X, kept a second time."""
        return self.n_sets * self.landmarks.n_points + self.middle.n_points


def make_levels(settings: Settings, n_points: int) -> Levels | None:
    """Return the levels below all of the points; None for a run that starts with all of them."""
    if (
        n_points <= LARGEST_ANNEALED
        or settings.annealing != "auto"
        or not (isinstance(settings.init, str) and settings.init in ANNEALED)
        or settings.perplexity is None
        or settings.metric in PAIRWISE  # the landmarks' distances would be a large copy
        or settings.optimizer != "lbfgs"
    ):
        return None
    density = settings.perplexity / n_points
    few = max(LANDMARKS, math.ceil(FEWEST_NEIGHBOURS / density))
    many = min(MIDDLE * few, int(LARGEST_MIDDLE * n_points))
    if few > many // 2:
        return None
    max_iter = SETS * settings.max_iter  # of all sets, and of all maps of the middle set
    return Levels(
        SETS,
        Level(few, landmark_stages(few * density, few, max_iter)),
        Level(many, (Stage(many * density, LANDMARK_TOL, max_iter),)),
    )

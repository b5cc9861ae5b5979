"""Which perplexities a map passes through on the way to the one asked, and with what care."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from dasksne.errors import InvalidInputError

FIRST_SHARE = 0.75
"""Of N: the perplexity of the first stage. The cost there has hardly a local minimum."""
RATIO = 4.0
"""At most, between the perplexities of neighbouring stages."""
COARSE_TAIL_MASS = 1e-2
"""What rows of P drop in a stage that only leads to one in which all of P counts."""
COARSE_TOL = 1e-6
"""Of that stage."""
EARLY_TOL = 1e-4
"""A stage whose map is only a start for the next one need not be finished; but one left on a
plateau passes its wrong choice on (MNIST, 3,000 points: at 3e-4 half of the starts end 1 % up)."""
EARLY_ITERATIONS = 120
"""Of L-BFGS, in all stages before the last together. Data that lie on a curve crawl for hundreds at
a perplexity that is left behind anyway."""
RACE_SHARE = 2 / 3
"""Of the iterations of the stage in which starts race: what all of them together are given, at
EARLY_TOL, before the lowest goes on alone. (At 0.5 a swiss roll of 1,000 points ends at 490, as its
spectral start takes 70 iterations to overtake the annealed map; with this share at 423.)"""
SPECTRAL_SHARE = 0.5
"""Of the target: the perplexity of a spectral start. The fewer neighbours, the fewer edges that
cut across the folds of the data."""
SMALLEST_SPECTRAL = 5.0


class Stage(NamedTuple):
    """One perplexity to optimise at, from where the stage before ended."""

    perplexity: float
    tol: float
    """Relative fall of the cost over 5 iterations at which the stage ends."""
    max_iter: int
    """Iterations that it is given; what it leaves over, the next one may take."""
    tail_mass: float = 0.0
    """The most that a row of P drops, if that is more than in the run."""


def stages(
    annealing: Literal["auto"] | Sequence[float] | None,
    perplexity: float,
    n_points: float,
    *,
    tol: float,
    max_iter: int,
    early_iterations: float = EARLY_ITERATIONS,
) -> tuple[Stage, ...]:
    """Return the stages from the first perplexity to the one asked, which is always the last.

    Parameters
    ----------
    annealing : "auto", None or list of float
        "auto": from 3/4 of N down by factors of at most 4. None: the target alone. A list: those
        perplexities, in that order, then the target unless it is the last already.
    perplexity : float
        The target.
    n_points : float
        N, points that count several times counted so often.
    tol : float
        Of the last stage.
    max_iter : int
        Of any stage.
    early_iterations : float
        Of those before the last together: each has an equal share.

    Raises
    ------
    InvalidInputError
        A perplexity of the list is not above 1 and below N - 1, or `annealing` is none of these.

    Examples
    --------
    >>> [round(stage.perplexity) for stage in stages("auto", 30, 1797, tol=1e-6, max_iter=9)]
    [1348, 379, 107, 30]
    >>> stages(None, 30, 1797, tol=1e-6, max_iter=300)
    (Stage(perplexity=30, tol=1e-06, max_iter=300, tail_mass=0.0),)
    """
    early = max(tol, EARLY_TOL)
    if annealing is None:
        before: list[float] = []
    elif annealing == "auto":
        before = _geometric(min(FIRST_SHARE * n_points, n_points - 1.5), perplexity, RATIO)
    elif isinstance(annealing, str):
        raise InvalidInputError(
            f"annealing={annealing!r} is not known; use 'auto', None or a list of perplexities"
        )
    else:
        before = [float(value) for value in annealing]
        for value in before:
            if not 1.0 < value < n_points - 1:
                raise InvalidInputError(
                    f"annealing holds the perplexity {value:g}; each must be above 1 and below "
                    f"N - 1 = {n_points - 1:.12g}"
                )
        if before and before[-1] == perplexity:
            before.pop()
    few = int(min(max(1.0, early_iterations / max(1, len(before))), max_iter))
    return (*(Stage(value, early, few) for value in before), Stage(perplexity, tol, max_iter))


def coarse_stages(perplexity: float, *, tol: float, max_iter: int) -> tuple[Stage, ...]:
    """Return a stage in which P has no tails, and one with all of P that counts.

    The first costs next to nothing beside a second one that goes over all pairs in each step.

    Examples
    --------
    >>> [stage.tail_mass for stage in coarse_stages(30.0, tol=1e-6, max_iter=300)]
    [0.01, 0.0]
    """
    few = min(EARLY_ITERATIONS, max_iter)
    return (
        Stage(perplexity, max(tol, COARSE_TOL), few, COARSE_TAIL_MASS),
        Stage(perplexity, tol, max_iter),
    )


def spectral_perplexity(perplexity: float) -> float:
    """Return the perplexity of the affinities that a spectral start is made from.

    Examples
    --------
    >>> spectral_perplexity(30.0), spectral_perplexity(6.0), spectral_perplexity(3.0)
    (15.0, 5.0, 3.0)
    """
    return min(perplexity, max(SPECTRAL_SHARE * perplexity, SMALLEST_SPECTRAL))


def _geometric(first: float, target: float, ratio: float) -> list[float]:
    """Return perplexities from the first down to just above the target, evenly in the logarithm."""
    if first <= target:
        return []
    count = math.ceil(math.log(first / target, ratio))
    return [target * (first / target) ** (k / count) for k in range(count, 0, -1)]

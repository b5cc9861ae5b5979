"""Which colour a point has: that of its class, or its number's place on a scale."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dasksne.errors import InvalidInputError
from dasksne.types import FloatArray, IntArray

FEW_COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#f0e442",
    "#000000",
)
"""Those of M. Okabe and K. Ito, "Color Universal Design" (2008), the paler ones last."""
COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
"""Ten that remain apart for colour-blind readers (M. A. Petroff, arXiv:2107.02270)."""
SCALE = "cividis"
"""Perceptually uniform, and the same for most colour-blind readers (arXiv:1712.01662)."""
N_MARKERS = 6
"""A shape for every ten classes."""
FEW_CLASSES = 20
"""Whole numbers with more values than this are shown on a scale, as other numbers are."""
RARE = 0.01
FAR = 0.5
"""Where numbers lie so far outside the range of all but the rare ones at each end, in such ranges,
that end of the scale is left to the rare ones."""
SHADED_POINTS = 50_000
"""From here on points cover each other, and a pixel shows how many there are."""


@dataclass(frozen=True)
class Classes:
    """Each point is of one kind."""

    codes: IntArray
    """Which of the names, shape (N,)."""
    names: tuple[str, ...]

    @property
    def colours(self) -> list[str]:
        """One for each name; they begin anew after ten, with another marker."""
        few = FEW_COLOURS if len(self.names) <= len(FEW_COLOURS) else COLOURS
        return [few[k % len(few)] for k in range(len(self.names))]

    @property
    def markers(self) -> list[int]:
        """One for each name, as a number below `N_MARKERS`."""
        return [k // len(COLOURS) for k in range(len(self.names))]

    @property
    def has_legend(self) -> bool:
        """Say whether there is anything to tell apart."""
        return len(self.names) > 1


@dataclass(frozen=True)
class Scale:
    """Each point has a number."""

    numbers: FloatArray
    """Shape (N,); NaN where there is none."""
    low: float
    high: float
    """Between them the colours change; a few numbers far outside do not make all others alike."""

    @property
    def cut(self) -> str:
        """Where numbers lie outside: "min", "max", "both" or "neither", as colour bars say it."""
        below = bool(np.nanmin(self.numbers) < self.low)
        above = bool(np.nanmax(self.numbers) > self.high)
        return {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
            (below, above), "neither"
        )


Colouring: TypeAlias = Classes | Scale


def colouring(labels: Any, n_points: int) -> Colouring:
    """Return what labels, or none, mean for the points' colours.

    Parameters
    ----------
    labels : array of shape (n_points,) or None
    n_points : int

    Raises
    ------
    InvalidInputError
        They do not fit the points, or hold more classes than a picture tells apart.
    """
    if labels is None:
        return Classes(np.zeros(n_points, dtype=np.int64), ("",))
    labels = np.asarray(labels)
    if labels.shape != (n_points,):
        raise InvalidInputError(
            f"labels have shape {labels.shape}; they must be one for each of {n_points} points"
        )
    if labels.dtype.kind == "O":
        labels = np.array(["" if _is_missing(label) else str(label) for label in labels])
    if labels.dtype.kind == "f":
        return _scale(labels)
    names, codes = np.unique(labels, return_inverse=True)
    if labels.dtype.kind in "iu" and names.size > FEW_CLASSES:
        return _scale(labels)
    most = len(COLOURS) * N_MARKERS
    if names.size > most:
        raise InvalidInputError(
            f"labels hold {names.size} different classes; a picture tells {most} apart"
        )
    return Classes(codes.astype(np.int64), tuple(str(name) for name in names))


def _is_missing(label: Any) -> bool:
    """Say whether it is None, NaN, or what pandas has for either."""
    if isinstance(label, float):
        return math.isnan(label)
    return label is None or type(label).__name__ in ("NAType", "NaTType")


def _scale(labels: npt.NDArray[Any]) -> Scale:
    values = labels.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        raise InvalidInputError("labels hold no finite number; a scale needs one")
    lowest, low, high, highest = np.quantile(values[finite], (0.0, RARE, 1.0 - RARE, 1.0))
    far = FAR * (high - low)
    return Scale(
        np.where(finite, values, np.nan),
        float(low if 0.0 < far < low - lowest else lowest),
        float(high if 0.0 < far < highest - high else highest),
    )

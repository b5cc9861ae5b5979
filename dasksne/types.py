"""The nouns that layers hand to each other."""

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.floating]
"""A float64 or float32 array."""


IntArray: TypeAlias = npt.NDArray[np.integer]
"""An array of indices."""


class Evaluation(NamedTuple):
    """The SNE cost of one map and its gradient."""

    cost: float
    """C = sum_i KL(P_i || Q_i), in nats."""
    gradient: FloatArray
    """dC/dY, shape (N, d)."""


Objective: TypeAlias = Callable[[FloatArray], Evaluation]
"""Maps Y, shape (N, d), to its Evaluation."""

ObjectiveOfAll: TypeAlias = Callable[[Sequence[FloatArray]], Sequence[Evaluation]]
"""Maps several Y to an Evaluation each."""

T = TypeVar("T")

Asking: TypeAlias = Generator[FloatArray, Evaluation, T]
"""Work that yields each map it needs evaluated, is sent the Evaluation, and returns its result."""

"""How often each point counts; those that count not at all are placed on the map of the others."""

from dataclasses import replace
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import numpy.typing as npt

from dasksne.errors import InvalidInputError
from dasksne.run import Run
from dasksne.settings import PAIRWISE, Settings
from dasksne.staging import Data, look_at_array
from dasksne.types import FloatArray


class Task(NamedTuple):
    """What is fitted, and how."""

    settings: Settings
    data: Data
    fitted: npt.NDArray[np.bool_] | None
    """Which points of the data given these are; None where all."""


def weighted_task(data: Data, settings: Settings, sample_weight: Any, store: Run | None) -> Task:
    """Return the points that have a weight, and the settings with which they are fitted.

    Raises
    ------
    InvalidInputError
        The weights are none, do not go with an option, or there are points of weight 0 that could
        not be placed after the fit, or data whose values are bad.
    """
    weights = _weights_of(sample_weight, data.shape[0])
    if weights is None or np.all(weights == 1.0):
        return Task(settings, data, None)
    settings = replace(settings, sample_weight=weights)
    fitted = weights > 0.0
    if np.all(fitted):
        return Task(settings, data, None)
    _require_placeable(data, settings, fitted, store)
    assert not isinstance(data, da.Array)  # noqa: S101 - refused with points of weight 0
    # The fit looks at the others only, by numbers of their own.
    look_at_array(data, "euclidean" if settings.prepares else settings.metric)
    return Task(_settings_of_some(settings, fitted), _some(data, settings, fitted), fitted)


def _settings_of_some(settings: Settings, fitted: npt.NDArray[np.bool_]) -> Settings:
    weights, init = settings.arrays["sample_weight"][fitted], settings.init
    if not isinstance(init, str) and len(init) == len(fitted):
        init = init[fitted]
    return replace(settings, init=init, sample_weight=None if np.all(weights == 1.0) else weights)


def _some(data: Data, settings: Settings, fitted: npt.NDArray[np.bool_]) -> Data:
    chosen: Data = data[fitted]
    return chosen[:, fitted] if settings.metric in PAIRWISE else chosen


def _weights_of(sample_weight: Any, n_points: int) -> FloatArray | None:
    """Return how often each of N points counts, 0 or from 1 on, as a new array."""
    if sample_weight is None:
        return None
    try:
        weights = np.array(sample_weight, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInputError("sample_weight must be an array of numbers") from None
    if weights.shape != (n_points,):
        raise InvalidInputError(
            f"sample_weight has shape {weights.shape}; it must be ({n_points},), one number for "
            "each point"
        )
    allowed = (weights == 0.0) | ((weights >= 1.0) & np.isfinite(weights))
    bad = np.flatnonzero(~allowed)
    if bad.size:
        raise InvalidInputError(
            f"sample_weight[{bad[0]}] = {weights[bad[0]]:g}; a weight must be finite, and 1 or "
            "more, or 0 for a point that is only placed: it says how often a point counts; "
            "multiply all by one number so that the smallest is 1"
        )
    return weights


def _require_placeable(
    data: Data, settings: Settings, fitted: npt.NDArray[np.bool_], store: Run | None
) -> None:
    """Raise InvalidInputError where points of weight 0 could not be placed after the fit."""
    where = None
    if store is not None:
        where = "with store=, as a run has all of its points"
    elif isinstance(data, da.Array):
        where = "in a Dask collection, which the model does not keep"
    elif isinstance(settings.sigma, np.ndarray):
        where = "with a sigma for each point"
    if where is not None:
        raise InvalidInputError(
            f"sample_weight[{int(np.argmin(fitted))}] = 0: a point without weight is not taken "
            f"{where}; leave such rows out, and place them with transform where that is open"
        )
    if np.count_nonzero(fitted) < 2:
        raise InvalidInputError(
            f"sample_weight is zero for all but {np.count_nonzero(fitted)} points; a map has "
            "two at least"
        )

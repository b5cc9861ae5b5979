"""Exact Stochastic Neighbor Embedding for data larger than memory, on Dask and Zarr."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dasksne.annotated import sne
    from dasksne.arrays import (
        conditional_probabilities,
        embedding_probabilities,
        gradient,
        kl_divergence,
        squared_distances,
    )
    from dasksne.estimator import SNE, resume
    from dasksne.opened import open_run
    from dasksne.pictures import plot

__version__ = version("dasksne")

__all__ = [
    "SNE",
    "conditional_probabilities",
    "embedding_probabilities",
    "gradient",
    "kl_divergence",
    "open_run",
    "plot",
    "resume",
    "sne",
    "squared_distances",
]

_HOMES = {
    "SNE": "dasksne.estimator",
    "conditional_probabilities": "dasksne.arrays",
    "embedding_probabilities": "dasksne.arrays",
    "gradient": "dasksne.arrays",
    "kl_divergence": "dasksne.arrays",
    "open_run": "dasksne.opened",
    "plot": "dasksne.pictures",
    "resume": "dasksne.estimator",
    "sne": "dasksne.annotated",
    "squared_distances": "dasksne.arrays",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: compilers and clients are slow to load."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

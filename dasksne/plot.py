"""A picture of a map; needs matplotlib, `pip install "dasksne[plot]"`."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dasksne.errors import InvalidInputError
from dasksne.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
MARKERS = "o^sDvP"
"""A shape for every ten classes."""
FEW_CLASSES = 20
"""Whole numbers with more values than this are shown on a scale, as other numbers are."""
SUFFIXES = (".png", ".svg", ".pdf")
INKED_AREA = 2e4
"""Of all points together, in points^2: a third of the picture."""
POINT_AREAS = (0.3, 25.0)
"""Smallest and largest area of one point."""
MANY_POINTS = 10_000
"""From here on the points of an SVG or PDF are an image: nobody edits so many shapes."""


def plot(embedding: FloatArray, path: str | Path, *, labels: Any = None) -> None:
    """Draw a map, and write it as PNG, SVG or PDF as the path's suffix says.

    Parameters
    ----------
    embedding : array of shape (N, 2)
    path : path
    labels : array of shape (N,), optional
        Colours the points: a class each for texts and for up to 20 whole numbers, a scale for other
        numbers.

    Raises
    ------
    InvalidInputError
        The map has not two components, the labels do not fit it, or the suffix is not known.
    ImportError
        matplotlib is not there.

    Examples
    --------
    >>> import tempfile, numpy
    >>> from dasksne.plot import plot
    >>> plot(numpy.eye(2), tempfile.mkdtemp() + "/map.svg", labels=["a", "b"])
    """
    require_drawable(path, embedding.shape[1])
    labels = None if labels is None else np.asarray(labels)
    if labels is not None and labels.shape != (len(embedding),):
        raise InvalidInputError(
            f"labels have shape {labels.shape}; they must be one for each of {len(embedding)} "
            "points"
        )
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(7.0, 6.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_aspect("equal")
    axes.set_axis_off()
    style: dict[str, Any] = {
        "s": float(np.clip(INKED_AREA / len(embedding), *POINT_AREAS)),
        "linewidths": 0,
        "rasterized": len(embedding) > MANY_POINTS,
    }
    if labels is None:
        axes.scatter(embedding[:, 0], embedding[:, 1], c=COLOURS[0], **style)
    elif _are_classes(labels):
        _scatter_classes(axes, embedding, labels, style)
    else:
        points = axes.scatter(
            embedding[:, 0], embedding[:, 1], c=labels.astype(float), cmap="cividis", **style
        )
        figure.colorbar(points, ax=axes, shrink=0.7)
    figure.savefig(path, dpi=150)


def require_drawable(path: str | Path, n_components: int) -> None:
    """Raise what `plot` would raise, before the map is there."""
    if Path(path).suffix.lower() not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise InvalidInputError(f"{path} ends in no format that is known; use one of {known}")
    if n_components != 2:
        raise InvalidInputError(
            f"a picture shows a map of two components; this one has {n_components}"
        )
    if not Path(path).absolute().parent.is_dir():
        raise InvalidInputError(f"{path} lies in a folder that does not exist")
    if find_spec("matplotlib") is None:
        raise ImportError('a picture needs matplotlib; pip install "dasksne[plot]"')


def _are_classes(labels: npt.NDArray[Any]) -> bool:
    return labels.dtype.kind not in "iuf" or (
        labels.dtype.kind in "iu" and np.unique(labels).size <= FEW_CLASSES
    )


def _scatter_classes(
    axes: "Axes", embedding: FloatArray, labels: npt.NDArray[Any], style: dict[str, Any]
) -> None:
    classes = np.unique(labels)
    most = len(COLOURS) * len(MARKERS)
    if classes.size > most:
        raise InvalidInputError(
            f"labels hold {classes.size} different classes; a picture tells {most} apart"
        )
    for k, name in enumerate(classes):
        points = embedding[labels == name]
        axes.scatter(
            points[:, 0],
            points[:, 1],
            c=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k // len(COLOURS)],
            label=str(name),
            **style,
        )
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_sizes([30.0])  # type: ignore[attr-defined]  # a scatter's, whatever s is

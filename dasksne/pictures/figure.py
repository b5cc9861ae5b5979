"""A map as a PNG, SVG or PDF, by matplotlib."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dasksne.pictures.colours import SCALE, SHADED_POINTS, Classes, Colouring, Scale
from dasksne.pictures.sizes import image_side, point_area
from dasksne.types import FloatArray

MARKERS = "o^sDvP"
EDITABLE_POINTS = 10_000
"""Above, the points of an SVG or PDF are an image: nobody edits so many shapes."""
RESOLUTION = 150
"""Dots per inch."""
SHADED_PIXELS = 1_000
LEGEND_AREA = 30.0
LEGEND_ROWS = 20


def write_figure(path: str | Path, embedding: FloatArray, colours: Colouring, name: str) -> None:
    """Draw a map whose points have these colours, and write it as the path's suffix says."""
    figure = Figure(figsize=(7.0, 6.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_aspect("equal")
    axes.set_axis_off()
    if len(embedding) > SHADED_POINTS:
        shown = _shade(axes, embedding, colours)
    else:
        shown = _scatter(axes, embedding, colours)
    if not isinstance(colours, Classes):
        scale = ScalarMappable(_norm(colours), SCALE)
        figure.colorbar(scale, ax=axes, shrink=0.7, label=name, extend=colours.cut)
    elif colours.has_legend:
        axes.legend(
            handles=shown,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            frameon=False,
            ncols=-(-len(colours.names) // LEGEND_ROWS),
        )
    figure.savefig(path, dpi=RESOLUTION)


def _scatter(axes: Axes, embedding: FloatArray, colours: Colouring) -> list[Line2D]:
    """Draw each point; return the classes' entries for a legend."""
    style: dict[str, Any] = {
        "s": point_area(len(embedding)),
        "linewidths": 0,
        "rasterized": len(embedding) > EDITABLE_POINTS,
    }
    if not isinstance(colours, Classes):
        style |= {"c": colours.numbers, "cmap": SCALE, "norm": _norm(colours)}
        axes.scatter(embedding[:, 0], embedding[:, 1], **style)
        return []
    markers = [MARKERS[k] for k in colours.markers]
    for k, (colour, marker) in enumerate(zip(colours.colours, markers, strict=True)):
        points = embedding[colours.codes == k]
        axes.scatter(points[:, 0], points[:, 1], c=colour, marker=marker, **style)
    return _entries(colours, colours.colours, markers)


def _norm(scale: Scale) -> Normalize:
    return Normalize(scale.low, scale.high)


def _shade(axes: Axes, embedding: FloatArray, colours: Colouring) -> list[Line2D]:
    """Draw the points as one image; return the classes' entries for a legend."""
    from dasksne.pictures.shading import class_colours, shade  # noqa: PLC0415 - slow to load

    shading = shade(embedding, colours, image_side(len(embedding), SHADED_PIXELS))
    axes.imshow(shading.pixels, extent=(*shading.x, *shading.y), origin="lower")
    if not isinstance(colours, Classes):
        return []
    return _entries(colours, class_colours(colours), ["o"] * len(colours.names))


def _entries(classes: Classes, colours: list[str], markers: list[str]) -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            linestyle="",
            marker=marker,
            color=colour,
            markeredgewidth=0,
            markersize=np.sqrt(LEGEND_AREA),
            label=name,
        )
        for name, colour, marker in zip(classes.names, colours, markers, strict=True)
    ]

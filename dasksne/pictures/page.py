"""A map as one HTML file that needs no network: zoom, pan, and what is under the pointer."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.embed import file_html
from bokeh.models import ColorBar, HoverTool, Legend, LegendItem, LinearColorMapper
from bokeh.palettes import Cividis256
from bokeh.plotting import figure
from bokeh.resources import INLINE
from PIL import Image

from dasksne.pictures.colours import SHADED_POINTS, Classes, Colouring, Scale
from dasksne.pictures.sizes import image_side, point_area
from dasksne.types import FloatArray

MARKERS = ("circle", "triangle", "square", "diamond", "inverted_triangle", "plus")
SHADED_PIXELS = 2_000
ANSWERING_POINTS = 10_000
"""Of those in an image so many answer to the pointer: each makes the file larger."""
PIXELS_PER_POINT = 96 / 72
SMALLEST = 3.0
"""Diameter of a point in pixels."""


def write_page(path: str | Path, embedding: FloatArray, colours: Colouring, name: str) -> None:
    """Draw a map whose points have these colours, and write the page."""
    page = figure(
        sizing_mode="stretch_both",
        match_aspect=True,
        tools="pan,wheel_zoom,box_zoom,reset,save",
        active_scroll="wheel_zoom",
        output_backend="webgl",  # where the browser has none it takes the canvas
    )
    page.axis.visible = False
    page.grid.visible = False
    page.outline_line_color = None
    draw = _draw_image if len(embedding) > SHADED_POINTS else _draw_points
    draw(page, embedding, colours, name)
    Path(path).write_text(file_html(page, INLINE, title=Path(path).stem), encoding="utf-8")


def _draw_points(page: Any, embedding: FloatArray, colours: Colouring, name: str) -> None:
    """Draw a mark for each point; a click on a class in the legend hides it."""
    size = max(SMALLEST, float(np.sqrt(point_area(len(embedding)))) * PIXELS_PER_POINT)
    style: dict[str, Any] = {"size": size, "line_color": None}
    points = np.arange(len(embedding))
    if isinstance(colours, Scale):
        mapper = _mapper(colours)
        fill = {"field": "value", "transform": mapper}
        drawn = [_scatter(page, embedding, points, colours, fill_color=fill, **style)]
        _add_bar(page, mapper, name)
    else:
        drawn = [
            _scatter(
                page,
                embedding,
                points[colours.codes == k],
                colours,
                fill_color=colour,
                marker=MARKERS[marker],
                **style,
            )
            for k, (colour, marker) in enumerate(zip(colours.colours, colours.markers, strict=True))
        ]
        _add_legend(page, colours, drawn, click_policy="hide")
    _add_hover(page, colours, drawn, name)


def _draw_image(page: Any, embedding: FloatArray, colours: Colouring, name: str) -> None:
    """Draw the points as one image, and over it some that are seen under the pointer only."""
    from dasksne.pictures.shading import class_colours, shade  # noqa: PLC0415 - slow to load

    shading = shade(embedding, colours, image_side(len(embedding), SHADED_PIXELS))
    with io.BytesIO() as file:
        Image.fromarray(shading.pixels[::-1]).save(file, format="png")
        url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    (left, right), (low, high) = shading.x, shading.y
    page.image_url(url=[url], x=left, y=low, w=right - left, h=high - low, anchor="bottom_left")
    answering = np.linspace(0, len(embedding) - 1, ANSWERING_POINTS).astype(np.int64)
    hidden = {"fill_alpha": 0.0, "line_alpha": 0.0}
    ring = {"hover_fill_alpha": 0.0, "hover_line_alpha": 1.0, "hover_line_color": "black"}
    drawn = _scatter(page, embedding, answering, colours, size=8, **hidden, **ring)
    if isinstance(colours, Scale):
        _add_bar(page, _mapper(colours), name)
    else:
        # A legend shows the first point of each of its entries; these are nowhere on the map.
        nowhere = [np.nan]
        entries = [
            page.scatter(nowhere, nowhere, color=colour, size=8)
            for colour in class_colours(colours)
        ]
        _add_legend(page, colours, entries, click_policy="none")
    _add_hover(page, colours, [drawn], name)


def _scatter(
    page: Any, embedding: FloatArray, points: Any, colours: Colouring, **style: Any
) -> Any:
    """Add some of the points, with what is said of them under the pointer."""
    data: dict[str, Any] = {
        "x": embedding[points, 0],
        "y": embedding[points, 1],
        "point": points.astype(np.int32),
    }
    if isinstance(colours, Scale):
        data["value"] = colours.numbers[points]
    elif colours.has_legend:
        data["value"] = np.array(colours.names)[colours.codes[points]].tolist()
    return page.scatter("x", "y", source=data, **style)


def _mapper(scale: Scale) -> LinearColorMapper:
    return LinearColorMapper(
        palette=Cividis256, low=scale.low, high=scale.high, nan_color="rgba(0, 0, 0, 0)"
    )


def _add_bar(page: Any, mapper: LinearColorMapper, name: str) -> None:
    page.add_layout(ColorBar(color_mapper=mapper, title=name), "right")


def _add_legend(page: Any, classes: Classes, drawn: list[Any], *, click_policy: str) -> None:
    if classes.has_legend:
        items = [
            LegendItem(label={"value": label}, renderers=[mark])
            for label, mark in zip(classes.names, drawn, strict=True)
        ]
        page.add_layout(Legend(items=items, click_policy=click_policy), "right")


def _add_hover(page: Any, colours: Colouring, drawn: list[Any], name: str) -> None:
    said = [("point", "@point")]
    if isinstance(colours, Scale) or colours.has_legend:
        said.append((name, "@value"))
    page.add_tools(HoverTool(renderers=drawn, tooltips=said))

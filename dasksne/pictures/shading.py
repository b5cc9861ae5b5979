"""Many points as one image: how many are in each pixel, and the mean of their colours."""

from typing import NamedTuple

import datashader
import datashader.transfer_functions as tf
import numpy as np
import numpy.typing as npt
import pandas as pd
from colorcet import glasbey_dark
from matplotlib import colormaps
from matplotlib.colors import to_hex

from dasksne.pictures.colours import COLOURS, SCALE, Classes, Colouring
from dasksne.types import FloatArray

FAINTEST = 70
"""Opacity, of 255, of a pixel with few points."""
SPREAD = 2
"""Pixels that a point grows to each side where it stands alone."""
THINNEST = 8
"""Longer over shorter side of an image, at most."""
RESOLVED = 1e-9
"""Of a point's distance from the origin; places that are nearer to each other are one."""


class Shading(NamedTuple):
    """An image and the part of the map that it covers."""

    pixels: npt.NDArray[np.uint8]
    """Shape (height, width, 4): red, green, blue, opacity; the lowest row first."""
    x: tuple[float, float]
    y: tuple[float, float]


def shade(embedding: FloatArray, colours: Colouring, longest: int) -> Shading:
    """Draw points into an image with so many pixels on its longer side.

    Opacity goes by the rank of a pixel's count, so that sparse and crowded parts both show their
    structure; numbers of a scale are averaged in each pixel.
    """
    centre = embedding.min(axis=0) / 2 + embedding.max(axis=0) / 2
    sides = np.ptp(embedding, axis=0)
    # A margin, and no side so thin that it is not seen; a map of equal points has a side too.
    extent = max(sides.max(), RESOLVED * np.abs(centre).max()) or 1.0
    sides = np.maximum(1.02 * sides, extent / THINNEST)
    (x, y) = ((float(c - s / 2), float(c + s / 2)) for c, s in zip(centre, sides, strict=True))
    width, height = (max(1, round(longest * s / sides.max())) for s in sides)
    canvas = datashader.Canvas(width, height, x_range=x, y_range=y)
    frame = pd.DataFrame({"x": embedding[:, 0], "y": embedding[:, 1]})
    if isinstance(colours, Classes):
        frame["class"] = pd.Categorical(colours.codes, range(len(colours.names)))
        counts = canvas.points(frame, "x", "y", datashader.by("class", datashader.count()))
        key = dict(enumerate(class_colours(colours)))
        image = tf.shade(counts, color_key=key, how="eq_hist", min_alpha=FAINTEST)
    else:
        frame["value"] = colours.numbers
        means = canvas.points(frame, "x", "y", datashader.mean("value"))
        image = tf.shade(
            means,
            cmap=[to_hex(colour) for colour in colormaps[SCALE](range(256))],
            how="linear",
            span=(colours.low, colours.high),
        )
    image = tf.dynspread(image, threshold=0.5, max_px=SPREAD)
    return Shading(image.data.view(np.uint8).reshape(height, width, 4), x, y)


def class_colours(classes: Classes) -> list[str]:
    """Return a colour for each class; they must all differ, as pixels have no shapes."""
    n = len(classes.names)
    return classes.colours if n <= len(COLOURS) else list(glasbey_dark[:n])

"""How large a point is: the more there are, the smaller."""

import numpy as np

INKED_AREA = 2e4
"""Of all points together, in points^2: a third of the picture."""
POINT_AREAS = (0.5, 25.0)
"""Smallest and largest area of one point."""
PIXELS_PER_ROOT = 2.0
"""Of the square root of the number of points: fewer points in more pixels would be dust."""


def point_area(n_points: int) -> float:
    """Return the area of the square around one of so many points, in points^2 (1/72 inch)."""
    return float(np.clip(INKED_AREA / n_points, *POINT_AREAS))


def image_side(n_points: int, most: int) -> int:
    """Return the longer side, in pixels, of an image of so many points."""
    return min(most, int(PIXELS_PER_ROOT * np.sqrt(n_points)))

"""How large a point is: the more there are, the smaller."""

import numpy as np

INKED_AREA = 2e4
"""Of all points together, in points^2: a third of the picture."""
POINT_AREAS = (0.5, 25.0)
"""Smallest and largest area of one point."""


def point_area(n_points: int) -> float:
    """Return the area of the square around one of so many points, in points^2 (1/72 inch)."""
    return float(np.clip(INKED_AREA / n_points, *POINT_AREAS))

"""Distances that are not Euclidean: python examples/distances.py [FOLDER].

Cities by the way between them along the globe, as a matrix; digits by the direction of their
pixels, so that a pale one and a dark one of the same shape are equal.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics.pairwise import haversine_distances

import dasksne

CITIES = {
    "Africa": [(30, 31), (6, 3), (-1, 37), (-26, 28), (34, -7), (15, -17), (9, 39), (-34, 18)],
    "America": [(41, -74), (34, -118), (19, -99), (-23, -47), (-35, -58), (5, -74), (-12, -77)],
    "Asia": [(36, 140), (31, 121), (19, 73), (29, 77), (14, 100), (1, 104), (41, 29), (25, 55)],
    "Europe": [(51, 0), (49, 2), (53, 13), (40, -4), (42, 12), (56, 38), (59, 18), (48, 16)],
    "Oceania": [(-34, 151), (-38, 145), (-37, 175), (-32, 116), (-27, 153), (-18, 178), (-9, 147)],
}
"""Latitude and longitude of some, in degrees."""


def main(folder: Path = Path(), n: int = 1797, **options: object) -> None:
    """Write cities.png and cosine.png to a folder."""
    places = np.radians([place for cities in CITIES.values() for place in cities])
    kilometres = 6371.0 * haversine_distances(places)
    np.fill_diagonal(kilometres, 0.0)
    model = dasksne.SNE(metric="precomputed", perplexity=6, **options)  # distances, not squared
    labels = [continent for continent, cities in CITIES.items() for _ in cities]
    dasksne.plot(model.fit_transform(kilometres), folder / "cities.png", labels=labels)

    X, digits = load_digits(return_X_y=True)
    brightness = np.random.default_rng(0).uniform(0.1, 1.0, size=(n, 1))
    Y = dasksne.SNE(metric="cosine", **options).fit_transform(brightness * X[:n])
    dasksne.plot(Y, folder / "cosine.png", labels=digits[:n])


if __name__ == "__main__":
    main(Path(*sys.argv[1:]))

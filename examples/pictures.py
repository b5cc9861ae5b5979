"""One map, drawn in every way: python examples/pictures.py [FOLDER].

By label, by the cost of each point, by a feature, and as a page to zoom and point at. The same from
the shell: dasksne plot map.zarr map.png, with --color-by cost, --color-by 36, or map.html.
"""

import sys
from pathlib import Path

from sklearn.datasets import load_digits

import dasksne


def main(folder: Path = Path(), **options: object) -> None:
    """Write map.zarr, four pictures and a page to a folder."""
    X, labels = load_digits(return_X_y=True)
    store = folder / "map.zarr"
    Y = dasksne.SNE(store=store, overwrite=True, **options).fit_transform(X)
    dasksne.plot(Y, folder / "labels.png", labels=labels)
    dasksne.plot(Y, folder / "map.html", labels=labels, name="digit")  # needs no network
    run = dasksne.open_run(store)
    run.plot(folder / "cost.png", color_by="cost")  # where the map fits badly
    run.plot(folder / "feature.png", color_by=36)  # the pixel in the middle
    run.plot_history(folder / "history.png")


if __name__ == "__main__":
    main(Path(*sys.argv[1:]))

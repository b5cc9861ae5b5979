"""New points on a map: digits that were held out, placed among those that were fitted.

    python examples/new_points.py [FOLDER]

The run is all that new points need: the second half could be another process, on another machine.
"""

import sys
from pathlib import Path

import dask.array as da
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

import dasksne


def main(folder: Path, **options: object) -> None:
    """Write digits-part.zarr to a folder, and say how many new digits come beside their kind."""
    X, labels = load_digits(return_X_y=True)
    X, X_new, labels, labels_new = train_test_split(X, labels, test_size=0.2, random_state=0)
    store = folder / "digits-part.zarr"
    Y = dasksne.SNE(store=store, overwrite=True, verbose=1, **options).fit_transform(X)

    model = dasksne.resume(store)  # a run that is finished is read, not computed again
    lazy = model.transform(da.from_array(X_new, chunks=(100, -1)))  # nothing is computed yet
    placed = lazy.compute()
    judge = KNeighborsClassifier(10).fit(Y, labels)
    print(f"{judge.score(placed, labels_new):.1%} of {len(placed)} are beside their kind")


if __name__ == "__main__":
    main(Path(*sys.argv[1:]))

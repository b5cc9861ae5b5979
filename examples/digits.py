"""The digits of scikit-learn as a map and a picture: python examples/digits.py [FOLDER]."""

import sys
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness

import dasksne


def main(folder: Path, **options: object) -> None:
    """Write digits.zarr and digits.png to a folder."""
    X, labels = load_digits(return_X_y=True)
    model = dasksne.SNE(store=folder / "digits.zarr", overwrite=True, verbose=1, **options)
    Y = model.fit_transform(X)
    print(f"C = {model.kl_divergence_:.2f} nats after {model.n_iter_} iterations")
    print(f"trustworthiness {trustworthiness(X, Y, n_neighbors=12):.3f}")
    dasksne.plot(Y, folder / "digits.png", labels=labels)


if __name__ == "__main__":
    main(Path(*sys.argv[1:]))

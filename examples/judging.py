"""Which neighbours a map keeps, beside other maps of the same data: python examples/judging.py.

Writes judging.png, the curves R_NX(k): how far beyond chance a map keeps the k nearest neighbours.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

import dasksne
from dasksne import metrics


def main(folder: Path = Path(), n: int = 1797, **options: object) -> None:
    """Judge three maps of the first n digits."""
    X = load_digits().data[:n]
    model = dasksne.SNE(**options).fit(X)
    maps = {
        "SNE": model.embedding_,
        "t-SNE": TSNE(random_state=0).fit_transform(X),
        "PCA": PCA(2).fit_transform(X),
    }
    figure = Figure(figsize=(5.0, 3.5), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="neighbours k", ylabel="R_NX(k)")
    for name, Y in maps.items():
        near, far = metrics.neighbors_kept(X, Y, n_neighbors=[10, n // 4])
        curve = metrics.quality_curve(X, Y)
        print(
            f"{name:>5}: trustworthiness {metrics.trustworthiness(X, Y, n_neighbors=12):.3f}, "
            f"continuity {metrics.continuity(X, Y, n_neighbors=12):.3f}, "
            f"of 10 neighbours kept {near:.1%}, of {n // 4} {far:.1%}, area {curve.area:.3f}"
        )
        axes.plot(curve.n_neighbors, curve.r_nx, label=name)
    axes.legend(frameon=False)
    figure.savefig(folder / "judging.png", dpi=100)
    costs = metrics.kl_per_point(X, model.embedding_, perplexity=model.perplexity or 30.0)
    print(f"the digit that SNE places worst is number {costs.argmax()}, at {costs.max():.1f} nats")


if __name__ == "__main__":
    main(Path(*sys.argv[1:]))

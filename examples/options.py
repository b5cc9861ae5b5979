"""What the options cost and what they change: python examples/options.py [FOLDER].

Writes options.png: the digits at four perplexities.
"""

import sys
import time
from pathlib import Path

from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import dasksne
from dasksne import metrics
from dasksne.plan import format_bytes


def main(folder: Path = Path(), n: int = 1797, **options: object) -> None:
    """Map the first n digits again and again."""
    X, labels = load_digits(return_X_y=True)
    X, labels = X[:n], labels[:n]
    figure = Figure(figsize=(8.0, 2.6), layout="constrained")
    for axes, perplexity in zip(figure.subplots(1, 4), (5, 30, 100, n // 4), strict=True):
        Y = dasksne.SNE(perplexity=perplexity, **options).fit_transform(X)
        near, far = metrics.neighbors_kept(X, Y, n_neighbors=[5, n // 4])
        print(f"perplexity {perplexity}: kept {near:.1%} of 5 neighbours, {far:.1%} of {n // 4}")
        axes.scatter(*Y.T, c=labels, s=2, cmap="tab10", linewidths=0)
        axes.set(title=f"perplexity {perplexity}", xticks=[], yticks=[], aspect="equal")
    figure.savefig(folder / "options.png", dpi=100)

    for changed in (
        {"p_storage": "memory"},
        {"p_storage": "recompute"},
        {"tail_mass": 1e-3},
        {"repulsion": "direct"},
    ):
        began = time.perf_counter()
        model = dasksne.SNE(annealing=None, **{**options, **changed}).fit(X)
        seconds = (time.perf_counter() - began) / model.history_["evaluations"][-1]
        memory = format_bytes(model.report_["memory_bytes"])
        print(f"{changed}: {1e3 * seconds:.1f} ms an evaluation, {memory}")
        tails = model.report_["tails"]
        if tails:
            error = f"{tails['largest_error']:.2g} (bound {tails['largest_bound']:.2g})"
            print(f"  {tails['kept_share']:.1%} of P kept; error of a gradient row {error}")


if __name__ == "__main__":
    main(Path(*sys.argv[1:]))

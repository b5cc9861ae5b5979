"""One iteration of other packages, ready to be timed; ImportError where one is not installed."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.metrics import pairwise_distances


def require(package: str) -> Callable[[], object]:
    """Raise ImportError unless a package is installed."""
    module = import_module(package)
    return lambda: module


def torchdr_iteration(
    X: np.ndarray, perplexity: float, threads: int, **options: Any
) -> Callable[[], object]:
    """Return one step of TorchDR's SNE on the CPU."""
    torch, torchdr = import_module("torch"), import_module("torchdr")
    torch.set_num_threads(threads)

    class Kept(torchdr.SNE):  # type: ignore[misc, name-defined]
        """Keeps what a step needs after the fit."""

        def clear_memory(self) -> None:
            pass

    # Few passes of its root search: the time of a step does not depend on the values of P.
    model = Kept(
        perplexity=perplexity,
        max_iter=1,
        max_iter_affinity=2,
        device="cpu",
        random_state=0,
        **options,
    )
    model.fit_transform(X)
    return model._training_step


def sklearn_iteration(X: np.ndarray, perplexity: float) -> Callable[[], object]:
    """Return one evaluation of cost and gradient of scikit-learn's TSNE(method="exact").

    By the functions that its fit calls: no public option makes so short a fit.
    """
    module = import_module("sklearn.manifold._t_sne")
    n = len(X)
    squared = pairwise_distances(X, metric="euclidean", squared=True)
    P = module._joint_probabilities(squared, perplexity, verbose=0)
    Y = 1e-4 * X[:, :2] / X[:, 0].std()
    return lambda: module._kl_divergence(Y.ravel(), P, 1, n, 2)


def opentsne_fit(X: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """Return a fit of openTSNE with its defaults."""
    opentsne = import_module("openTSNE")
    return lambda: np.asarray(opentsne.TSNE(n_jobs=threads, random_state=0).fit(X))


def torchdr_fit(X: np.ndarray, perplexity: float, threads: int) -> Callable[[], np.ndarray]:
    """Return a fit of TorchDR's SNE with its defaults; it raises where its map diverges."""
    torch, torchdr = import_module("torch"), import_module("torchdr")
    torch.set_num_threads(threads)
    model = torchdr.SNE(perplexity=perplexity, device="cpu", random_state=0)
    return lambda: np.asarray(model.fit_transform(X))

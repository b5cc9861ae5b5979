"""Two fitted models, compared to the bit."""

import numpy as np

from dasksne.job import HISTORY

MEASURED = [name for name in HISTORY if name != "seconds"]


def assert_same_map(found, expected):
    """Compare what models came to."""
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)
    assert found.kl_divergence_ == expected.kl_divergence_


def assert_same_run(found, expected):
    """Compare what models came to, and each iteration on the way but for its time."""
    assert_same_map(found, expected)
    assert found.n_iter_ == expected.n_iter_
    for name in MEASURED:
        np.testing.assert_array_equal(found.history_[name], expected.history_[name])

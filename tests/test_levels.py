"""Which runs map some of their points first, and how many."""

import numpy as np
import pytest

import dasksne
from dasksne.job import LARGEST_ANNEALED
from dasksne.levels import FEWEST_NEIGHBOURS, LANDMARKS, make_levels

N = 70_000


def levels(n_points=N, **options):
    return make_levels(dasksne.SNE(**options)._settings(), n_points)


def test_perplexities_fall_with_the_points():
    """A share of the points has that share of the neighbours."""
    found = levels(perplexity=30.0)
    for level in (found.landmarks, found.middle):
        assert level.perplexity == pytest.approx(30.0 * level.n_points / N)
    assert found.landmarks.n_points == LANDMARKS < found.middle.n_points < N
    perplexities = [stage.perplexity for stage in found.landmarks.schedule]
    assert perplexities == sorted(perplexities, reverse=True)
    assert len(perplexities) > 3
    assert len(found.middle.schedule) == 1


def test_counts():
    found = levels()
    per_set = len(found.landmarks.schedule)
    assert found.n_stages == per_set + 1
    assert found.n_rows == found.n_sets * found.landmarks.n_points + found.middle.n_points


@pytest.mark.parametrize("n_points", [LARGEST_ANNEALED + 1, 30_000, N, 10**6, 10**8])
def test_landmarks_have_enough_neighbours_and_are_few(n_points):
    found = levels(n_points)
    assert found.landmarks.perplexity >= FEWEST_NEIGHBOURS
    assert 2 * found.landmarks.n_points <= found.middle.n_points <= 0.75 * n_points


def test_a_smaller_perplexity_needs_more_landmarks():
    assert levels(perplexity=12.0).landmarks.n_points == 11_667
    assert levels(perplexity=4.0) is None


@pytest.mark.parametrize(
    "options",
    [
        {"annealing": None},
        {"annealing": [100.0]},
        {"init": "spectral"},
        {"init": np.zeros((N, 2))},
        {"sigma": 1.0},
        {"metric": "precomputed"},
        {"optimizer": "momentum"},
    ],
    ids=str,
)
def test_runs_that_start_with_all_points(options):
    assert levels(**options) is None


@pytest.mark.parametrize("init", ["pca", "random", "best"])
def test_only_large_runs_have_levels(init):
    assert levels(LARGEST_ANNEALED, init=init) is None
    assert levels(LARGEST_ANNEALED + 1, init=init) is not None

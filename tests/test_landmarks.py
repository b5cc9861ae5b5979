"""Landmarks, and the places of all other points among them."""

import pickle

import numpy as np
import pytest
from engine import source_of
from scipy.special import softmax

from dasksne.executor.threads import ThreadExecutor
from dasksne.kernels.placement import place
from dasksne.landmarks import Landmarks, landmark_indices, place_all, place_rows, select
from dasksne.run import Run
from dasksne.source import ArrayRows, Features, StoredRows, row_chunks

PERPLEXITY = 8.0


@pytest.fixture(name="X")
def data(rng):
    return rng.normal(size=(300, 6))


def distance_matrix(X):
    return np.sqrt(((X[:, np.newaxis] - X) ** 2).sum(axis=-1))


def landmarks_of(source, indices, seed=1):
    with ThreadExecutor(2) as executor:
        chosen = select(executor, source, indices, None, "set")
    y = 2.0 * np.random.default_rng(seed).normal(size=(indices.size, 2))
    return Landmarks(indices, chosen, y)


def entropy(p):
    return -np.sum(p * np.log(np.where(p > 0.0, p, 1.0)))


def precision(row):
    """Bisect for the precision at which a row has the perplexity."""
    low, high = 1e-6, 1e6
    for _ in range(200):
        middle = np.sqrt(low * high)
        if entropy(softmax(-middle * row)) > np.log(PERPLEXITY):
            low = middle
        else:
            high = middle
    return low


def test_indices_are_a_subset_in_order():
    indices = landmark_indices(1000, 100, seed=3)
    assert indices.size == np.unique(indices).size == 100
    assert (np.diff(indices) > 0).all()
    assert indices.min() >= 0
    assert indices.max() < 1000
    np.testing.assert_array_equal(indices, landmark_indices(1000, 100, seed=3))
    assert not np.array_equal(indices, landmark_indices(1000, 100, seed=4))
    np.testing.assert_array_equal(landmark_indices(7, 7, seed=0), np.arange(7))


def test_indices_are_spread_evenly():
    counts = np.histogram(landmark_indices(100_000, 10_000, seed=0), bins=10)[0]
    assert np.all(np.abs(counts - 1000) < 150)


def test_select_reads_scattered_rows_of_many_chunks(tmp_path, rng):
    """Where the data is in a run, so are they: a task carries none of them."""
    x = rng.normal(size=(1500, 2000))
    assert len(row_chunks(*x.shape)) > 3
    run = Run.locate(tmp_path / "run.zarr")
    run.create(overwrite=False)
    run.create_array("X", x.shape, (300, 2000))
    run.write("X", slice(None), x)
    rows = StoredRows(run.url, "X", (), x.shape, "1", len(x))
    indices = np.concatenate([[0, 1], np.arange(500, 1010), [1499]])
    with ThreadExecutor(2) as executor:
        chosen = select(executor, Features(rows, exponent=3), indices, run, "some/rows")
    assert len(pickle.dumps(chosen)) < 1000
    np.testing.assert_array_equal(chosen.x.read(slice(0, 513)), x[indices])
    np.testing.assert_array_equal(run.read("some/rows"), x[indices])
    assert chosen.exponent == 3


def test_selected_distances_are_those_of_the_landmarks(X):
    indices = landmark_indices(300, 50, seed=0)
    source = source_of(X)
    chosen = landmarks_of(source, indices).source
    expected = source.panel(slice(0, 300))[np.ix_(indices, indices)]
    np.testing.assert_array_equal(chosen.panel(slice(0, 50)), expected)


def test_points_are_placed_by_their_neighbours_among_the_landmarks(X):
    indices = landmark_indices(300, 60, seed=0)
    landmarks = landmarks_of(source_of(X), indices)
    found = place_rows(slice(0, 300), source_of(X), landmarks, PERPLEXITY)
    np.testing.assert_array_equal(found[indices], landmarks.y)
    others = np.setdiff1d(np.arange(300), indices)
    squared = distance_matrix(X)[np.ix_(others, indices)] ** 2
    p = softmax([-precision(row) * row for row in squared], axis=1)
    best = place(p @ landmarks.y, np.ascontiguousarray(landmarks.y.T))
    np.testing.assert_allclose(found[others], best, atol=0.03)
    assert np.median(np.abs(found[others] - best)) < 1e-3


def test_a_point_has_the_same_bits_in_every_block(X):
    source = source_of(X)
    landmarks = landmarks_of(source, landmark_indices(300, 60, seed=0))
    whole = place_rows(slice(0, 300), source, landmarks, PERPLEXITY)
    for rows in (slice(0, 1), slice(37, 205), slice(299, 300)):
        np.testing.assert_array_equal(place_rows(rows, source, landmarks, PERPLEXITY), whole[rows])


def test_blocks_of_landmarks_alone(X):
    landmarks = landmarks_of(source_of(X), np.arange(100, 200))
    found = place_rows(slice(120, 150), source_of(X), landmarks, PERPLEXITY)
    np.testing.assert_array_equal(found, landmarks.y[20:50])


def test_all_points_are_placed_block_by_block(rng):
    X = rng.normal(size=(2500, 3))
    source = source_of(X)
    landmarks = landmarks_of(source, landmark_indices(2500, 80, seed=0))
    with ThreadExecutor(2) as executor:
        told = []
        found = place_all(executor, source, landmarks, PERPLEXITY, lambda *done: told.append(done))
        assert told == [(k, told[-1][1]) for k in range(1, told[-1][1] + 1)]
    whole = place_rows(slice(0, 2500), source, landmarks, PERPLEXITY)
    np.testing.assert_array_equal(found, whole)


def test_scaled_data_gives_the_same_places(X):
    indices = landmark_indices(300, 60, seed=0)
    source = Features(ArrayRows(X))
    expected = place_rows(slice(0, 300), source, landmarks_of(source, indices), PERPLEXITY)
    other = Features(ArrayRows(X * 2.0**200), exponent=200)
    found = place_rows(slice(0, 300), other, landmarks_of(other, indices), PERPLEXITY)
    np.testing.assert_array_equal(found, expected)


def test_a_task_can_be_sent(X):
    source = source_of(X)
    task = (place_rows, slice(0, 40), source, landmarks_of(source, np.arange(0, 300, 5)), 5.0)
    function, *arguments = pickle.loads(pickle.dumps(task))  # noqa: S301 - our own
    np.testing.assert_array_equal(function(*arguments), place_rows(*task[1:]))


def test_duplicates_of_a_landmark_and_of_many(X):
    """A row with more nearest neighbours than its perplexity shares itself among them."""
    X[:40] = X[0]
    landmarks = landmarks_of(source_of(X), np.arange(0, 300, 2))
    found = place_rows(slice(0, 40), source_of(X), landmarks, PERPLEXITY)
    assert np.isfinite(found).all()
    mean = landmarks.y[:20].mean(axis=0)[np.newaxis]
    expected = place(mean, np.ascontiguousarray(landmarks.y.T))
    np.testing.assert_allclose(found[1::2], np.repeat(expected, 20, axis=0), atol=0.03)

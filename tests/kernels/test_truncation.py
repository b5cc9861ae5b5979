"""Truncated rows of P, against a sort of the whole row."""

import numpy as np
import pytest
import reference

from dasksne.kernels.calibration import calibrate
from dasksne.kernels.probabilities import conditional_probabilities, joint_entries
from dasksne.kernels.truncation import add_column_masses, truncate


def rows_of(X, perplexity, tail_mass):
    """Return distances, whole and truncated calibration, and P before and after."""
    distances = reference.vectorised_squared_distances(X)
    whole = calibrate(distances, 0, perplexity)
    cut = truncate(distances, 0, whole, tail_mass)
    before, after = np.empty_like(distances), np.empty_like(distances)
    conditional_probabilities(distances, 0, whole, before)
    conditional_probabilities(distances, 0, cut, after)
    return distances, whole, cut, before, after


@pytest.mark.parametrize("tail_mass", [1e-9, 1e-6, 1e-3, 0.05, 0.5])
def test_drops_as_many_of_the_smallest_as_fit(rng, tail_mass):
    _, _, cut, before, after = rows_of(rng.normal(size=(300, 3)), 12.0, tail_mass)
    for i, row in enumerate(before):
        ascending = np.sort(np.delete(row, i))
        dropped = int(np.searchsorted(np.cumsum(ascending), tail_mass, side="right"))
        assert abs(cut.kept[i] - (len(ascending) - dropped)) <= 1  # a sum at the limit rounds
        assert cut.dropped[i] <= tail_mass
        kept = row >= ascending[-int(cut.kept[i])]
        kept[i] = False
        np.testing.assert_array_equal(after[i] > 0.0, kept)
        np.testing.assert_allclose(after[i][kept], row[kept] / row[kept].sum(), rtol=1e-12)
        assert cut.dropped[i] == pytest.approx(row[~kept].sum(), rel=1e-9, abs=1e-18)
    np.testing.assert_allclose(cut.entropy, reference.row_entropies(after), rtol=1e-12)


def test_zero_keeps_everything(rng):
    distances = reference.vectorised_squared_distances(rng.normal(size=(40, 2)))
    whole = calibrate(distances, 0, 5.0)
    assert truncate(distances, 0, whole, 0.0) is whole


def test_keeps_ties_with_the_last_one_kept():
    # A ring of equals: nothing can be dropped without dropping half of its like.
    distances = np.ones((6, 6)) - np.eye(6)
    cut = truncate(distances, 0, calibrate(distances, 0, 4.0), 0.5)
    np.testing.assert_array_equal(cut.kept, 5.0)
    np.testing.assert_array_equal(cut.dropped, 0.0)


def test_entries_are_those_of_both_directions(rng):
    distances, _, cut, _, after = rows_of(rng.normal(size=(130, 4)), 8.0, 1e-2)
    rows, columns = slice(10, 60), slice(30, 130)
    tile = np.ascontiguousarray(distances[rows, columns])
    row, column, value = joint_entries(tile, tile, rows, columns, cut)
    joint = np.zeros(tile.shape)
    joint[row, column - columns.start] = value
    expected = (after + after.T)[rows, columns]
    np.testing.assert_allclose(joint, expected, rtol=1e-14)
    assert row.size == np.count_nonzero(expected)


def test_column_masses(rng):
    distances, whole, cut, before, _ = rows_of(rng.normal(size=(120, 3)), 9.0, 1e-2)
    weighted, lost = np.zeros(50), np.zeros(50)
    for columns in (slice(0, 70), slice(70, 120)):
        back = np.ascontiguousarray(distances[columns, 20:70].T)
        add_column_masses(back, slice(20, 70), columns, whole, cut, weighted, lost)
    dropped = np.where(distances > cut.cutoff[:, None], before, 0.0)
    np.testing.assert_allclose(weighted, (before.T @ cut.dropped)[20:70], rtol=1e-12)
    np.testing.assert_allclose(lost, dropped.sum(axis=0)[20:70], rtol=1e-12)

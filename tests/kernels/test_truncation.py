"""Truncated rows of P, against a sort of the whole row."""

import numpy as np
import pytest
import reference

from dasksne.kernels.calibration import Calibration, calibrate
from dasksne.kernels.probabilities import append_joint, conditional_probabilities
from dasksne.kernels.tails import SMALLEST_SHARE, add_losses, add_own_losses, masses_lost


def rows_of(X, perplexity, tail_mass):
    """Return distances, whole and truncated calibration, and P before and after."""
    distances = reference.vectorised_squared_distances(X)
    whole = calibrate(distances, 0, perplexity)
    cut = calibrate(distances, 0, perplexity, tail_mass)
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
    whole = calibrate(distances, 0, 5.0, 0.0)
    np.testing.assert_array_equal(whole.kept, 39)
    np.testing.assert_array_equal(whole.cutoff, np.inf)
    np.testing.assert_array_equal(whole.dropped, 0.0)


def test_keeps_ties_with_the_last_one_kept():
    # A ring of equals: nothing can be dropped without dropping half of its like.
    distances = np.ones((6, 6)) - np.eye(6)
    cut = calibrate(distances, 0, 4.0, 0.5)
    np.testing.assert_array_equal(cut.kept, 5.0)
    np.testing.assert_array_equal(cut.dropped, 0.0)


def test_entries_are_those_of_both_directions(rng):
    distances, _, cut, _, after = rows_of(rng.normal(size=(130, 4)), 8.0, 1e-2)
    rows = slice(10, 60)
    column, value = np.empty((50, 130), dtype=np.int32), np.empty((50, 130))
    counts = np.zeros(50, dtype=np.int64)
    for columns in (slice(0, 30), slice(30, 130)):
        tile = np.ascontiguousarray(distances[rows, columns])
        append_joint(tile, tile, rows, columns, cut, column, value, counts)
    joint = np.zeros((50, 130))
    for i, n in enumerate(counts):
        assert np.all(np.diff(column[i, :n]) > 0)
        joint[i, column[i, :n]] = value[i, :n]
    expected = (after + after.T)[rows]
    np.testing.assert_allclose(joint, expected, rtol=1e-14)
    np.testing.assert_array_equal(counts, np.count_nonzero(expected, axis=1))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_rows_of_every_kind_keep_the_same_as_a_sort(rng, scale):
    # Rows in one crowd, two crowds far apart, a lone point and copies: few or many per interval.
    crowd = rng.normal(size=(150, 2))
    X = scale * np.concatenate([crowd, 1e3 + crowd[:60], [[1e5, 0.0]], np.repeat(crowd[:5], 6, 0)])
    _, _, cut, before, _ = rows_of(X, 10.0, 1e-4)
    for i, row in enumerate(before):
        ascending = np.sort(np.delete(row, i))
        gone = int(np.searchsorted(np.cumsum(ascending), 1e-4, side="right"))
        ties = np.count_nonzero(np.isclose(ascending, ascending[gone], rtol=1e-9)) + 1
        assert abs(cut.kept[i] - (ascending.size - gone)) <= ties
        assert cut.dropped[i] <= 1e-4
        gone = np.sum(ascending[: -int(cut.kept[i])])
        assert cut.dropped[i] == pytest.approx(gone, rel=1e-9, abs=1e-18)


@pytest.mark.parametrize("tail_mass", [1e-9, 1e-2, 0.5])
def test_what_columns_lose_is_bounded_from_above(rng, tail_mass):
    distances, _, cut, before, _ = rows_of(rng.normal(size=(120, 3)), 9.0, tail_mass)
    lost = np.zeros(120, dtype=np.int64)
    for rows in (slice(50, 120), slice(0, 50)):
        part = Calibration(*(column[rows] for column in cut))
        add_losses(distances[rows], rows.start, part, tail_mass, lost)
    dropped = np.where(distances > cut.cutoff[:, None], before, 0.0)
    dropped /= 1.0 - cut.dropped[:, None]  # of what is left
    true, found = dropped.sum(axis=0), masses_lost(lost, cut, tail_mass)
    assert np.all(true <= found)
    counted = np.where(dropped > 1.001 * SMALLEST_SHARE * tail_mass / 120, dropped, 0.0)
    nothing_else = cut._replace(dropped=np.zeros(120))
    assert np.all(counted.sum(axis=0) <= masses_lost(lost, nothing_else, tail_mass))
    assert np.all(found <= 1.1 * true + 0.1 * tail_mass)


def test_what_columns_lose_is_the_same_by_rows_and_by_columns(rng):
    distances, _, cut, _, _ = rows_of(rng.normal(size=(120, 3)), 9.0, 1e-2)
    lost, own = np.zeros(120, dtype=np.int64), np.zeros(50, dtype=np.int64)
    distances[np.diag_indices(120)] = 0.1 + cut.cutoff  # a point's own entry is not read
    add_losses(distances, 0, cut, 1e-2, lost)
    for columns in (slice(0, 70), slice(70, 120)):
        back = np.ascontiguousarray(distances[columns, 20:70].T)
        add_own_losses(back, slice(20, 70), columns, cut, 1e-2, own)
    np.testing.assert_array_equal(own, lost[20:70])

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dasksne.kernels.distances import TILE, squared_distances

EPS = np.finfo(np.float64).eps


def distances(rows, columns):
    out = np.full((len(rows), len(columns)), np.nan)
    squared_distances(rows, columns, out)
    return out


def exact(a, b):
    return sum(
        (Fraction(s) - Fraction(t)) ** 2 for s, t in zip(a.tolist(), b.tolist(), strict=True)
    )


def coordinates(shape):
    return arrays(np.float64, shape, elements=st.floats(-1e6, 1e6, allow_subnormal=False))


@given(st.data(), st.integers(1, 6), st.integers(1, 6), st.integers(1, 9))
def test_every_pair_is_right_to_rounding(data, n_rows, n_columns, n_features):
    rows = data.draw(coordinates((n_rows, n_features)))
    columns = data.draw(coordinates((n_columns, n_features)))
    out = distances(rows, columns)
    for i, j in np.ndindex(*out.shape):
        expected = exact(rows[i], columns[j])
        assert abs(Fraction(out[i, j]) - expected) <= (n_features + 3) * EPS * expected + 1e-300


@pytest.mark.parametrize("n_rows", [1, 3, 4, 5])
@pytest.mark.parametrize("n_columns", [1, TILE - 1, TILE, TILE + 1, 2 * TILE + 88])
@pytest.mark.parametrize("n_features", [1, 3, 4, 5, 50])
def test_any_size_fills_the_output(rng, n_rows, n_columns, n_features):
    rows = rng.normal(size=(n_rows, n_features))
    columns = rng.normal(size=(n_columns, n_features))
    expected = ((rows[:, None] - columns) ** 2).sum(axis=2)
    np.testing.assert_allclose(distances(rows, columns), expected, rtol=1e-14)


@pytest.mark.parametrize("shift", [0.0, 1e4, 1e8])
def test_a_shift_of_the_data_loses_nothing(rng, shift):
    x = np.round(rng.normal(size=(9, 7)), 6) + shift
    out = distances(x, x)
    for i, j in np.ndindex(9, 9):
        expected = exact(x[i], x[j])
        assert abs(Fraction(out[i, j]) - expected) <= 10 * EPS * expected


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_squares_of_extreme_values_are_numbers(rng, scale):
    x = rng.normal(size=(20, 3))
    np.testing.assert_allclose(
        distances(scale * x, scale * x), distances(x, x) * scale**2, rtol=1e-12
    )


def test_a_point_is_at_zero_from_itself_and_its_copies(rng):
    x = np.repeat(1e4 + rng.normal(size=(5, 6)), 2, axis=0)
    twins = distances(x, x)[np.arange(10), np.arange(10) ^ 1]
    assert not np.any(twins)
    assert not np.any(np.diag(distances(x, x)))


def test_both_directions_have_the_same_bits(rng):
    x = rng.normal(size=(300, 11))
    out = distances(x, x)
    np.testing.assert_array_equal(out, out.T)


def test_a_pair_has_the_same_bits_in_every_layout(rng):
    x = rng.normal(size=(300, 7))
    whole = distances(x, x)
    for rows, columns in [(slice(0, 1), slice(0, 300)), (slice(5, 12), slice(3, 299))]:
        np.testing.assert_array_equal(distances(x[rows], x[columns]), whole[rows, columns])


def test_inputs_are_left_alone(rng):
    x = rng.normal(size=(10, 4))
    x.flags.writeable = False
    before = x.copy()
    distances(x, x)
    np.testing.assert_array_equal(x, before)


def test_nan_stays_with_its_point(rng):
    x = rng.normal(size=(6, 5))
    x[2, 3] = np.nan
    touched = np.zeros((6, 6), dtype=bool)
    touched[2] = touched[:, 2] = True
    np.testing.assert_array_equal(np.isnan(distances(x, x)), touched)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dasksne.kernels import ranks
from dasksne.kernels.ranks import FEW, count_larger_ranks, neighbour_ranks


def literal_ranks(distances, first_row):
    """Rank 1 for the nearest other point, ties by index; 0 for the point itself."""
    out = np.zeros(distances.shape, dtype=int)
    for i, row in enumerate(distances.tolist()):
        others = [j for j in range(len(row)) if j != first_row + i]
        for rank, j in enumerate(sorted(others, key=lambda j: (row[j], j)), start=1):
            out[i, j] = rank
    return out


def literal_neighbour_ranks(a, b, first_row, k):
    in_a, in_b = literal_ranks(a, first_row), literal_ranks(b, first_row)
    nearest = np.argsort(in_b, axis=1)[:, 1 : k + 1]
    return np.take_along_axis(in_a, nearest, axis=1)


def literal_counts(a, b, first_row):
    larger = np.maximum(literal_ranks(a, first_row), literal_ranks(b, first_row))
    return np.bincount(larger.ravel(), minlength=a.shape[1])[1:]


def counts(a, b, first_row):
    out = np.zeros(a.shape[1] - 1, dtype=np.int64)
    count_larger_ranks(a, b, first_row, out)
    return out


def panels(n):
    """Rows 2, 3, ... of two matrices of squared distances; many are equal or almost so."""
    few = st.sampled_from([0.0, 5e-324, 1.0, np.nextafter(1.0, 2.0), 2.0, 1e300])
    return arrays(np.float64, (4, n), elements=few | st.floats(0.0, 1e9))


@given(st.data(), st.sampled_from([6, 9, FEW + 10]))
def test_ranks_are_those_of_a_stable_sort(data, n):
    a, b = data.draw(panels(n)), data.draw(panels(n))
    for k in (1, 3, n - 1):
        expected = literal_neighbour_ranks(a, b, 2, k)
        np.testing.assert_array_equal(neighbour_ranks(a, b, 2, k), expected)
    np.testing.assert_array_equal(counts(a, b, 2), literal_counts(a, b, 2))


@pytest.mark.parametrize(
    "kind", ["apart", "alike in their leading bits", "all equal", "few values"]
)
@pytest.mark.parametrize("k", [1, 7, FEW, FEW + 1, 299])
def test_many_points(rng, kind, k):
    a = rng.random((5, 300))
    if kind == "alike in their leading bits":
        a = 2.0 + a * 1e-13
    elif kind == "all equal":
        a[:] = 3.0
    elif kind == "few values":
        a = np.round(4.0 * a)
    b = rng.random((5, 300))
    for one, other in ((a, b), (b, a)):
        expected = literal_neighbour_ranks(one, other, 100, k)
        np.testing.assert_array_equal(neighbour_ranks(one, other, 100, k), expected)
        np.testing.assert_array_equal(counts(one, other, 100), literal_counts(one, other, 100))


def test_the_two_ways_agree(rng, monkeypatch):
    a, b = np.round(rng.random((2, 6, 500)), 2)
    counted = neighbour_ranks(a, b, 3, 20)
    monkeypatch.setattr(ranks, "FEW", 0)
    monkeypatch.setattr(ranks, "SORTED_AT_ONCE", 1300)
    np.testing.assert_array_equal(neighbour_ranks(a, b, 3, 20), counted)


def test_the_entry_of_a_point_with_itself_is_not_read(rng):
    a, b = rng.random((2, 4, 50))
    found = neighbour_ranks(a, b, 5, 8), counts(a, b, 5)
    own = np.arange(4), np.arange(5, 9)
    for value in (0.0, 0.5, 7.0):
        a[own] = b[own] = value
        np.testing.assert_array_equal(neighbour_ranks(a, b, 5, 8), found[0])
        np.testing.assert_array_equal(counts(a, b, 5), found[1])


def test_inputs_are_left_alone(rng):
    a, b = rng.random((2, 4, 50))
    before = a.copy(), b.copy()
    neighbour_ranks(a, b, 0, 3)
    neighbour_ranks(a, b, 0, 40)
    counts(a, b, 0)
    np.testing.assert_array_equal((a, b), before)

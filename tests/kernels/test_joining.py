"""S from the kept rows of P, against scipy and against what distances give."""

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array

from dasksne.kernels.calibration import Calibration, calibrate
from dasksne.kernels.joining import SparseRows, join
from dasksne.kernels.probabilities import conditional_probabilities, kept_probabilities


def sparse_rows(matrix):
    matrix = csr_array(matrix)
    matrix.sort_indices()
    return SparseRows(matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int64))


@given(
    st.integers(1, 60),
    st.floats(0.0, 0.6),
    st.integers(1, 61),
    st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
    st.integers(0, 2**32 - 1),
)
def test_any_rows_of_any_matrix(n, density, block_rows, ends, seed):
    P = random_array((n, n), density=density, rng=np.random.default_rng(seed)).tocsr()
    start, stop = sorted(round(n * end) for end in ends)
    if start == stop:
        start, stop = 0, n
    blocks = [sparse_rows(P[first : first + block_rows]) for first in range(0, n, block_rows)]
    found = join(blocks, start, stop)
    S = csr_array(found, shape=(stop - start, n))
    np.testing.assert_array_equal(S.toarray(), (P + P.T).toarray()[start:stop])
    for row in range(stop - start):
        assert np.all(np.diff(found.indices[found.indptr[row] : found.indptr[row + 1]]) > 0)


@pytest.mark.parametrize("tail_mass", [1e-6, 1e-2, 0.3])
def test_kept_probabilities_have_the_bits_of_all(rng, tail_mass):
    distances = reference.vectorised_squared_distances(rng.normal(size=(90, 3)))
    cut = calibrate(distances, 0, 9.0, tail_mass)
    expected = np.empty_like(distances)
    conditional_probabilities(distances, 0, cut, expected)
    for rows in (slice(0, 90), slice(11, 40), slice(89, 90)):
        part = Calibration(*(column[rows] for column in cut))
        data, indices, indptr = kept_probabilities(distances[rows], rows.start, part)
        found = csr_array((data, indices, indptr), shape=(rows.stop - rows.start, 90))
        np.testing.assert_array_equal(found.toarray(), expected[rows])
        np.testing.assert_array_equal(np.diff(indptr), np.count_nonzero(expected[rows], axis=1))

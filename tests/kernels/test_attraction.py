import numpy as np
import pytest
from scipy.sparse import csr_array

from dasksne.kernels.attraction import COLUMN_TILE, Places, attraction, sparse_attraction


def expected(S, Y):
    return np.einsum("ij,ijk->ik", S, Y[:, None] - Y)


def found(S, Y, rows, pieces):
    force = np.zeros((rows.stop - rows.start, Y.shape[1]))
    transposed = np.ascontiguousarray(Y.T)
    for columns in pieces:
        attraction(np.ascontiguousarray(S[rows, columns]), Y[rows], transposed, columns, force)
    return force


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_force(rng, d, dtype):
    S, Y = rng.random((90, 90)).astype(dtype), rng.normal(size=(90, d))
    rows = slice(20, 57)
    force = found(S, Y, rows, [slice(0, 90)])
    np.testing.assert_allclose(force, expected(S.astype(float), Y)[rows], rtol=1e-12, atol=1e-12)


def test_tiles_of_columns_add_up_to_the_same_bits(rng):
    n = 2 * COLUMN_TILE + 100
    S, Y = rng.random((8, n)), rng.normal(size=(n, 2))
    tiles = [slice(start, min(start + COLUMN_TILE, n)) for start in range(0, n, COLUMN_TILE)]
    rows = slice(0, 8)
    np.testing.assert_array_equal(found(S, Y, rows, tiles), found(S, Y, rows, [slice(0, n)]))


def test_a_row_has_the_same_bits_in_every_block(rng):
    S, Y = rng.random((40, 40)), rng.normal(size=(40, 2))
    whole = found(S, Y, slice(0, 40), [slice(0, 40)])
    np.testing.assert_array_equal(found(S, Y, slice(7, 23), [slice(0, 40)]), whole[7:23])


def test_it_adds_and_leaves_its_inputs_alone(rng):
    S, Y = rng.random((30, 30)), rng.normal(size=(30, 2))
    before = S.copy(), Y.copy()
    once = found(S, Y, slice(0, 30), [slice(0, 30)])
    np.testing.assert_array_equal(found(S, Y, slice(0, 30), [slice(0, 30)] * 2), 2.0 * once)
    np.testing.assert_array_equal(S, before[0])
    np.testing.assert_array_equal(Y, before[1])


def found_sparse(S, Y, rows, times=1):
    matrix, force = csr_array(S[rows]), np.zeros((rows.stop - rows.start, Y.shape[1]))
    indices, indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int64)
    for _ in range(times):
        sparse_attraction(matrix.data, indices, indptr, rows, Places(Y), force)
    return force


@pytest.fixture
def sparse(rng):
    """Rows of every number of entries, one of them empty."""
    S = rng.random((90, 90))
    return np.where(np.arange(90) < np.arange(90)[:, np.newaxis], S, 0.0)


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_force_of_a_sparse_matrix(rng, sparse, d, dtype):
    S, Y = sparse.astype(dtype), rng.normal(size=(90, d))
    rows = slice(0, 57)
    whole = expected(S.astype(float), Y)
    np.testing.assert_allclose(found_sparse(S, Y, rows), whole[rows], rtol=1e-12, atol=1e-12)


def test_a_sparse_row_has_the_same_bits_in_every_block(rng, sparse):
    Y = rng.normal(size=(90, 2))
    whole = found_sparse(sparse, Y, slice(0, 90))
    np.testing.assert_array_equal(found_sparse(sparse, Y, slice(7, 24)), whole[7:24])


def test_a_sparse_matrix_is_added_and_the_map_left_alone(rng, sparse):
    Y = rng.normal(size=(90, 3))
    before = Y.copy()
    once = found_sparse(sparse, Y, slice(0, 90))
    np.testing.assert_array_equal(found_sparse(sparse, Y, slice(0, 90), times=2), 2.0 * once)
    np.testing.assert_array_equal(Y, before)

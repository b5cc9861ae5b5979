import numpy as np
import pytest
from scipy.sparse import csr_array

from dasksne.kernels.attraction import COLUMN_TILE, Places, attraction, sparse_attraction


def expected(S, Y):
    difference = Y[:, None] - Y
    return np.einsum("ij,ijk->ik", S, difference), np.sum(S * np.sum(difference**2, axis=2), axis=1)


def found(S, Y, rows, pieces):
    force, energy = np.zeros((rows.stop - rows.start, Y.shape[1])), np.zeros(rows.stop - rows.start)
    transposed = np.ascontiguousarray(Y.T)
    for columns in pieces:
        attraction(
            np.ascontiguousarray(S[rows, columns]), Y[rows], transposed, columns, force, energy
        )
    return force, energy


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_force_and_energy(rng, d, dtype):
    S, Y = rng.random((90, 90)).astype(dtype), rng.normal(size=(90, d))
    rows = slice(20, 57)
    force, energy = found(S, Y, rows, [slice(0, 90)])
    for part, whole in zip((force, energy), expected(S.astype(float), Y), strict=True):
        np.testing.assert_allclose(part, whole[rows], rtol=1e-12, atol=1e-12)


def test_tiles_of_columns_add_up_to_the_same_bits(rng):
    n = 2 * COLUMN_TILE + 100
    S, Y = rng.random((8, n)), rng.normal(size=(n, 2))
    tiles = [slice(start, min(start + COLUMN_TILE, n)) for start in range(0, n, COLUMN_TILE)]
    rows = slice(0, 8)
    for part, whole in zip(found(S, Y, rows, tiles), found(S, Y, rows, [slice(0, n)]), strict=True):
        np.testing.assert_array_equal(part, whole)


def test_a_row_has_the_same_bits_in_every_block(rng):
    S, Y = rng.random((40, 40)), rng.normal(size=(40, 2))
    whole = found(S, Y, slice(0, 40), [slice(0, 40)])
    for part, field in zip(found(S, Y, slice(7, 23), [slice(0, 40)]), whole, strict=True):
        np.testing.assert_array_equal(part, field[7:23])


def test_it_adds_and_leaves_its_inputs_alone(rng):
    S, Y = rng.random((30, 30)), rng.normal(size=(30, 2))
    before = S.copy(), Y.copy()
    once = found(S, Y, slice(0, 30), [slice(0, 30)])
    twice = found(S, Y, slice(0, 30), [slice(0, 30)] * 2)
    for one, two in zip(once, twice, strict=True):
        np.testing.assert_allclose(two, 2.0 * one)
    np.testing.assert_array_equal(S, before[0])
    np.testing.assert_array_equal(Y, before[1])


def found_sparse(S, Y, rows):
    matrix = csr_array(S[rows])
    force, energy = np.zeros((rows.stop - rows.start, Y.shape[1])), np.zeros(rows.stop - rows.start)
    sparse_attraction(
        matrix.data,
        matrix.indices.astype(np.int32),
        matrix.indptr.astype(np.int64),
        rows,
        Places(Y),
        force,
        energy,
    )
    return force, energy


@pytest.fixture
def sparse(rng):
    """Rows of every number of entries, one of them empty."""
    S = rng.random((90, 90))
    return np.where(np.arange(90) < np.arange(90)[:, np.newaxis], S, 0.0)


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_force_and_energy_of_a_sparse_matrix(rng, sparse, d, dtype):
    S, Y = sparse.astype(dtype), rng.normal(size=(90, d))
    rows = slice(0, 57)
    for part, whole in zip(found_sparse(S, Y, rows), expected(S.astype(float), Y), strict=True):
        np.testing.assert_allclose(part, whole[rows], rtol=1e-12, atol=1e-12)


def test_a_sparse_row_has_the_same_bits_in_every_block(rng, sparse):
    Y = rng.normal(size=(90, 2))
    whole = found_sparse(sparse, Y, slice(0, 90))
    for part, field in zip(found_sparse(sparse, Y, slice(7, 24)), whole, strict=True):
        np.testing.assert_array_equal(part, field[7:24])


def test_a_sparse_matrix_is_added_and_the_map_left_alone(rng, sparse):
    Y = rng.normal(size=(90, 3))
    before = Y.copy()
    force, energy = found_sparse(sparse, Y, slice(0, 90))
    matrix = csr_array(sparse)
    indices, indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int64)
    total, work = force.copy(), energy.copy()
    sparse_attraction(matrix.data, indices, indptr, slice(0, 90), Places(Y), total, work)
    np.testing.assert_array_equal(total, 2.0 * force)
    np.testing.assert_allclose(work, 2.0 * energy, rtol=1e-14)
    np.testing.assert_array_equal(Y, before)

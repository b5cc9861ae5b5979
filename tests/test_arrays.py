import math
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import dask
import dask.array as da
import numpy as np
import pytest
import reference
import scipy.sparse
import zarr
from dask.callbacks import Callback
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_iris

from dasksne import arrays
from dasksne.errors import InvalidInputError

ENTROPY_TOLERANCE = 1e-12


def off_diagonal(matrix):
    return matrix[~np.eye(len(matrix), dtype=bool)]


def principal_scores(x, n_components=2):
    centred = x - x.mean(axis=0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2][:n_components].T


def literal(x, y, **how):
    """Return P, Q, C and G of data x and map y."""
    P = arrays.conditional_probabilities(x, **how)
    Q = arrays.embedding_probabilities(y)
    return P, Q, arrays.kl_divergence(P, Q), arrays.gradient(P, Q, y)


@pytest.fixture
def data(rng):
    return rng.normal(size=(40, 5))


@pytest.fixture
def embedding(rng):
    return rng.normal(size=(40, 2))


@pytest.fixture
def small_blocks(monkeypatch):
    """Let a row block of 40 points hold 6 rows."""
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 6 * 40 * 8)


# P


@pytest.mark.parametrize(
    ("load", "perplexity", "sum_of_squares", "largest"),
    [
        (lambda: load_iris().data, 40, 4.61261548, 0.114399),
        (lambda: load_iris().data, 30, 6.45383934, None),
        (lambda: load_digits().data, 30, 127.27075819, 0.457803),
        (lambda: load_digits().data[:500], 30, 32.71229828, None),
    ],
    ids=["iris-40", "iris-30", "digits", "digits-500"],
)
def test_known_probabilities(load, perplexity, sum_of_squares, largest):
    P = arrays.conditional_probabilities(load(), perplexity=perplexity).compute()
    assert np.sum(P**2) == pytest.approx(sum_of_squares, abs=1e-8)
    if largest is not None:
        assert P.max() == pytest.approx(largest, abs=1e-6)


def test_known_probabilities_from_distances_that_are_not_squared():
    """The sneer package's test of a kernel exp(-beta d): squares of sqrt(d)."""
    x = load_iris().data
    x = (x - x.min()) / (x.max() - x.min())
    distances = np.sqrt(reference.vectorised_squared_distances(x))
    P = arrays.conditional_probabilities(np.sqrt(distances), perplexity=50, metric="precomputed")
    P = P.compute()
    assert np.median(P) == pytest.approx(0.0006403, abs=1e-7)
    assert P.max() == pytest.approx(0.1286, abs=1e-4)


def awkward_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 5))
    return {
        "centred": x,
        "shifted": x + 1e4,
        "tight groups": np.concatenate([1e-3 * x[:60], 1e-3 * x[60:] + 1e3]),
        "near-duplicates": np.concatenate([x[:60], x[:60] + 1e-7 * x[60:]]),
    }


@pytest.mark.parametrize("x", awkward_data().values(), ids=awkward_data())
@pytest.mark.parametrize("how", [{"perplexity": 15}, {"sigma": 0.7}], ids=str)
def test_probabilities_are_exact(x, how):
    squared = reference.vectorised_squared_distances(x)
    if "sigma" in how:
        log_p = reference.vectorised_log_probabilities(squared, np.full(120, how["sigma"] ** -2))
        expected = np.exp(log_p)
    else:
        expected = reference.vectorised_conditional_probabilities(x, how["perplexity"])
    P = arrays.conditional_probabilities(x, **how).compute()
    seen = expected > 1e-8
    np.testing.assert_allclose(P[seen], expected[seen], rtol=1e-11)
    np.testing.assert_allclose(P, expected, atol=1e-18, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150, 1e153])
@pytest.mark.parametrize("metric", ["euclidean", "precomputed"])
def test_scale_does_not_matter_with_a_perplexity(rng, scale, metric):
    """Near-duplicates: the squares of their distances, 1e-12 of the others, must not vanish."""
    x = np.repeat(rng.normal(size=(10, 3)), 4, axis=0) + 1e-6 * rng.normal(size=(40, 3))
    if metric == "precomputed":
        x = np.sqrt(reference.vectorised_squared_distances(x))
    expected = arrays.conditional_probabilities(x, perplexity=2, metric=metric).compute()
    x *= scale
    if metric == "precomputed":
        np.fill_diagonal(x, np.inf)  # not read
    P = arrays.conditional_probabilities(x, perplexity=2, metric=metric).compute()
    np.testing.assert_allclose(P, expected, rtol=1e-8, atol=1e-300)


def test_sigma_is_a_width_in_units_of_the_data(data):
    expected = reference.conditional_probabilities(data, sigma=1.3)
    P = arrays.conditional_probabilities(data, sigma=1.3).compute()
    np.testing.assert_allclose(P, expected, rtol=1e-12)
    P = arrays.conditional_probabilities(1e3 * data, sigma=1.3e3).compute()
    np.testing.assert_allclose(P, expected, rtol=1e-12)


@pytest.mark.parametrize("how", [{"perplexity": 9}, {"sigma": 1.3}], ids=str)
@pytest.mark.parametrize("diagonal", [7.0, np.inf, np.nan])
def test_precomputed_distances_give_the_same(data, how, diagonal):
    expected = arrays.conditional_probabilities(data, **how).compute()
    distances = np.sqrt(reference.vectorised_squared_distances(data))
    np.fill_diagonal(distances, diagonal)  # not read
    P = arrays.conditional_probabilities(distances, metric="precomputed", **how).compute()
    np.testing.assert_allclose(P, expected, rtol=1e-8)


def test_precomputed_rows_are_those_of_the_point(rng):
    distances = rng.uniform(1.0, 2.0, size=(30, 30))  # not symmetric
    P = arrays.conditional_probabilities(distances, sigma=0.5, metric="precomputed").compute()
    expected = np.exp(reference.log_probabilities(distances**2, [4.0] * 30))
    np.testing.assert_allclose(P, expected, rtol=1e-12)


def test_perplexity_is_30_unless_sigma_is_given(data):
    default = arrays.conditional_probabilities(data).compute()
    np.testing.assert_array_equal(
        default, arrays.conditional_probabilities(data, perplexity=30).compute()
    )


def test_more_duplicates_than_the_perplexity_share_the_row():
    x = np.array([[0.0]] * 6 + [[1.0], [2.0]])
    P = arrays.conditional_probabilities(x, perplexity=3).compute()
    np.testing.assert_allclose(P[0], [0.0, *[0.2] * 5, 0.0, 0.0], rtol=1e-15, atol=1e-300)


def test_equal_points_are_equal_neighbours():
    P = arrays.conditional_probabilities(np.full((8, 3), 5.0), perplexity=3).compute()
    np.testing.assert_allclose(off_diagonal(P), 1 / 7, rtol=1e-15)


@given(
    st.integers(4, 30),
    st.integers(1, 6),
    st.integers(1, 3),
    st.floats(0.01, 0.99),
    st.data(),
)
def test_properties_for_any_size_and_chunks(n, n_features, n_components, share, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x, y = rng.normal(size=(n, n_features)), rng.normal(size=(n, n_components))
    perplexity = 1.0 + share * (n - 2)
    row_cuts = data.draw(st.sets(st.integers(1, n - 1)))
    rows = tuple(b - a for a, b in pairwise([0, *sorted(row_cuts), n]))
    columns = data.draw(st.integers(1, n_features))
    chunked = da.from_array(x, chunks=(rows, columns))
    with dask.config.set(scheduler="synchronous"):
        P, Q, C, G = dask.compute(*literal(chunked, y, perplexity=perplexity))
    for matrix in (P, Q):
        np.testing.assert_array_equal(np.diag(matrix), 0.0)
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(
        reference.row_entropies(P), math.log(perplexity), rtol=0.0, atol=ENTROPY_TOLERANCE + 1e-13
    )
    expected_cost, expected_gradient = reference.vectorised_evaluation(P, y)
    assert pytest.approx(expected_cost, rel=1e-12, abs=1e-13) == C
    assert reference.gradient_error(G, expected_gradient, y) <= 1e-13
    assert np.max(np.abs(G.sum(axis=0))) <= 1e-13 * n


# Q, cost and gradient


def test_distances_agree_with_the_loops(data):
    D = arrays.squared_distances(data).compute()
    np.testing.assert_allclose(D, reference.squared_distances(data), rtol=1e-14)


@pytest.mark.parametrize("spread", [1.0, 1e3])
def test_embedding_probabilities_agree_with_the_loops(embedding, spread):
    Q = arrays.embedding_probabilities(spread * embedding).compute()
    expected = reference.embedding_probabilities(spread * embedding)
    np.testing.assert_allclose(Q, expected, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(Q.sum(axis=1), 1.0, rtol=1e-14)


def test_cost_and_gradient_agree_with_the_loops(data, embedding):
    P, _, C, G = dask.compute(*literal(data, embedding, perplexity=9))
    assert pytest.approx(reference.cost(P, embedding), rel=1e-13) == C
    assert reference.gradient_error(G, reference.gradient(P, embedding), embedding) <= 1e-14


@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.usefixtures("small_blocks")
def test_gradient_agrees_with_two_derivations_from_the_cost(rng, n_components):
    x, y = rng.normal(size=(14, 4)), rng.normal(size=(14, n_components))
    P, _, _, G = dask.compute(*literal(x, y, perplexity=4))
    assert reference.gradient_error(G, reference.differentiated_gradient(P, y), y) <= 1e-14
    by_differences = reference.central_differences(lambda moved: reference.cost(P, moved), y)
    assert reference.gradient_error(G, by_differences, y) <= 1e-8


def test_the_oracle_agrees_with_itself(rng):
    """Loops, NumPy and 50 digits are three answers to the same question."""
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
    P = reference.conditional_probabilities(x, perplexity=4)
    np.testing.assert_allclose(
        off_diagonal(reference.vectorised_conditional_probabilities(x, 4)),
        off_diagonal(P),
        rtol=1e-12,
    )
    value, gradient = reference.vectorised_evaluation(P, y)
    assert value == pytest.approx(reference.cost(P, y), rel=1e-14)
    precise = reference.differentiated_gradient(P, y)
    assert reference.gradient_error(gradient, precise, y) <= 1e-14
    assert reference.gradient_error(reference.gradient(P, y), precise, y) <= 1e-14


def test_cost_of_a_map_whose_points_coincide():
    x = load_iris().data
    P, Q, C, G = dask.compute(*literal(x, np.zeros((150, 2)), perplexity=30))
    np.testing.assert_allclose(off_diagonal(Q), 1 / 149, rtol=1e-15)
    assert pytest.approx(150 * (math.log(149) - math.log(30)), abs=150 * ENTROPY_TOLERANCE) == C
    np.testing.assert_array_equal(G, 0.0)
    assert P.shape == (150, 150)


def test_known_cost_of_ten_flowers():
    """The smallvis package's known answer: where it starts and, to four decimals, where it ends."""
    x = load_iris().data[:10]
    P, _, at_start, _ = literal(x, principal_scores(x), perplexity=5)
    assert at_start.compute() == pytest.approx(3.969893, abs=1e-6)
    end = np.array(
        [
            [-0.9093, 0.5784, 0.4561, 0.7983, -0.9089, -1.669, 0.1867, -0.615, 1.695, 0.3876],
            [0.3947, 0.6318, -0.2393, -0.2071, 0.3158, -0.9542, -0.683, 0.3709, -0.2324, 0.6029],
        ]
    ).T
    Q = arrays.embedding_probabilities(end)
    assert arrays.kl_divergence(P, Q).compute() == pytest.approx(0.51774332, abs=1e-6)
    assert np.max(np.abs(arrays.gradient(P, Q, end).compute())) <= 1e-3


def test_cost_knows_only_the_shape_of_the_map(data, embedding):
    angle = 0.8
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    _, _, C, G = dask.compute(*literal(data, embedding, perplexity=9))
    _, _, turned_C, turned_G = dask.compute(
        *literal(data, embedding @ turn.T + [10.0, -3.0], perplexity=9)
    )
    assert pytest.approx(C, rel=1e-12) == turned_C
    assert reference.gradient_error(turned_G, G @ turn.T, embedding) <= 1e-12


def test_cost_of_the_same_probabilities_is_nothing(data):
    P = arrays.conditional_probabilities(data, perplexity=9)
    assert arrays.kl_divergence(P, P).compute() == 0.0


def test_cost_where_probabilities_vanish():
    P = np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    both = np.array([[0.0, 1.0, 0.0], [0.25, 0.0, 0.75], [0.5, 0.5, 0.0]])
    expected = 0.5 * math.log(2.0) + 0.5 * math.log(0.5 / 0.75)
    assert arrays.kl_divergence(P, both).compute() == pytest.approx(expected, rel=1e-15)
    one = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    assert arrays.kl_divergence(P, one).compute() == math.inf
    assert np.isnan(arrays.kl_divergence(P * np.nan, one).compute())


def test_cost_where_a_probability_is_hardly_there():
    """q = exp(-27^2) is no longer a normal number, but it is not zero."""
    y = np.array([[0.0], [0.1], [27.0]])
    P, _, C, _ = dask.compute(*literal(y, y, sigma=20.0))
    assert pytest.approx(reference.cost(P, y), rel=1e-6) == C


# Lazy, in row blocks


@pytest.fixture
def forms(data, tmp_path):
    """The same data in the forms that are taken."""
    stored = zarr.create_array(tmp_path / "x.zarr", shape=data.shape, dtype="f8", chunks=(9, 2))
    stored[:] = data
    sharded = zarr.create_array(
        tmp_path / "s.zarr", shape=data.shape, dtype="f8", chunks=(5, 5), shards=(10, 5)
    )
    sharded[:] = data
    mapped = np.memmap(tmp_path / "x.bin", dtype="f8", mode="w+", shape=data.shape)
    mapped[:] = data
    frozen = data.copy()
    frozen.flags.writeable = False
    return {
        "numpy": data,
        "list": data.tolist(),
        "fortran": np.asfortranarray(data),
        "backwards": data[::-1].copy()[::-1],
        "frozen": frozen,
        "memmap": mapped,
        "dask": da.from_array(data, chunks=(40, 5)),
        "ragged": da.from_array(data, chunks=((3, 17, 5, 15), (2, 2, 1))),
        "zarr": stored,
        "sharded": sharded,
    }


def test_any_form_of_the_data_gives_the_same_bits(forms, embedding):
    expected = arrays.conditional_probabilities(forms["numpy"], perplexity=9)
    divergence = arrays.kl_divergence(expected, arrays.embedding_probabilities(embedding))
    for name, form in forms.items():
        P, _, C, _ = literal(form, embedding, perplexity=9)
        np.testing.assert_array_equal(P.compute(), expected.compute(), err_msg=name)
        assert C.compute() == pytest.approx(divergence.compute(), rel=1e-14), name


@pytest.mark.usefixtures("small_blocks")
def test_any_form_of_p_and_q_gives_the_same(forms, embedding, tmp_path):
    P, Q, C, G = dask.compute(*literal(forms["ragged"], embedding, perplexity=9))
    stored = zarr.create_array(tmp_path / "P.zarr", shape=P.shape, dtype="f8", chunks=(11, 7))
    stored[:] = P
    tiled = da.from_array(Q, chunks=((10, 30), (20, 20)))
    for p, q in [(P, Q), (stored, Q), (stored, tiled), (P, tiled)]:
        assert arrays.kl_divergence(p, q).compute() == pytest.approx(C, rel=1e-14)
        found = arrays.gradient(p, q, embedding.tolist()).compute()
        assert reference.gradient_error(found, G, embedding) <= 1e-14


@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "u1", "?"])
def test_any_real_type_is_taken_as_float64(rng, dtype):
    x = rng.integers(0, 200, size=(12, 4)).astype(dtype)
    D = arrays.squared_distances(x)
    assert D.dtype == np.float64
    np.testing.assert_array_equal(
        D.compute(), reference.vectorised_squared_distances(x.astype("f8"))
    )


@pytest.mark.usefixtures("nothing_computes")
def test_nothing_is_computed_by_asking(forms, embedding):
    for form in forms.values():
        assert arrays.squared_distances(form).shape == (40, 40)
        P, Q, C, G = literal(form, embedding, perplexity=9)
        assert (P.shape, Q.shape, C.shape, G.shape) == ((40, 40), (40, 40), (), (40, 2))
        assert {P.dtype, Q.dtype, C.dtype, G.dtype} == {np.dtype("f8")}
        squares = da.from_array(np.ones((40, 40)), chunks=(40, 3))
        arrays.conditional_probabilities(squares, sigma=1.0, metric="precomputed")


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("chunks", "height"),
    [((40, 5), 6), ((6, 5), 6), ((4, 2), 4), (((3, 17, 5, 15), 5), 6), (((2, 4, 34), 5), 6)],
)
def test_row_blocks_are_equal_and_small(data, embedding, chunks, height):
    x = da.from_array(data, chunks=chunks)
    P, Q, _, G = literal(x, da.from_array(embedding, chunks=(chunks[0], 2)), perplexity=9)
    expected = (height,) * (40 // height) + ((40 % height,) if 40 % height else ())
    assert P.chunks == Q.chunks == (expected, (40,))
    assert arrays.squared_distances(x).chunks == (expected, (40,))
    assert G.chunks == (expected, (2,))


class LargestResult(Callback):
    """Watches the values that tasks hand on."""

    def __init__(self):
        super().__init__(posttask=self.measure)
        self.nbytes = 0

    def measure(self, _key, value, *_state):
        if isinstance(value, np.ndarray):
            self.nbytes = max(self.nbytes, value.nbytes)


@pytest.mark.usefixtures("small_blocks")
def test_no_task_makes_more_than_a_row_block(data, embedding, tmp_path):
    # 200 features: X itself is 33 row blocks large.
    x = da.from_array(np.tile(data, (1, 40)), chunks=(5, 20))
    P, Q, C, G = literal(x, embedding, perplexity=9)
    target = zarr.create_array(tmp_path / "P.zarr", shape=(40, 40), dtype="f8", chunks=(5, 40))
    with LargestResult() as largest:
        da.store(P, target, scheduler="synchronous")
        dask.compute(C, G, Q.sum(), scheduler="synchronous")
    assert 0 < largest.nbytes <= 8 * 200 * 5
    assert largest.nbytes >= 5 * 40 * 8


@pytest.fixture
def calls(monkeypatch):
    """Count the calls of what is done on one block."""
    counts = Counter()

    def counted(name):
        function = getattr(arrays, name)

        def count(*args, **options):
            counts[name] += 1
            return function(*args, **options)

        return count

    for name in ("_distance_tile", "_calibrate", "_softmax"):
        monkeypatch.setattr(arrays, name, counted(name))
    return counts


@pytest.mark.usefixtures("small_blocks")
def test_rows_of_p_need_their_own_blocks_only(data, calls):
    P = arrays.conditional_probabilities(data, perplexity=9)
    P[:6].compute(scheduler="synchronous")
    assert calls["_softmax"] == calls["_calibrate"] == 1
    assert calls["_distance_tile"] == 1  # all of X is one block of points
    calls.clear()
    P[6:20].compute(scheduler="synchronous")
    assert calls["_softmax"] == calls["_calibrate"] == calls["_distance_tile"] == 3


@pytest.mark.usefixtures("small_blocks")
def test_blocks_of_the_data_are_read_once(data, embedding):
    reads = Counter()

    def read(block, block_info=None):
        if block_info:  # absent where Dask asks for the type of the result
            reads[block_info[0]["chunk-location"]] += 1
        return block

    x = da.from_array(data, chunks=(8, 2)).map_blocks(read, meta=np.empty((0, 0)))
    dask.compute(*literal(x, embedding, perplexity=9), scheduler="synchronous")
    assert set(reads) == {(i, k) for i in range(5) for k in range(3)}
    assert set(reads.values()) == {1}


@pytest.mark.usefixtures("small_blocks")
def test_to_zarr_and_back(forms, embedding, tmp_path):
    P, Q, _, G = literal(forms["ragged"], embedding, perplexity=9)
    D = arrays.squared_distances(forms["ragged"])
    for name, lazy in {"D": D, "P": P, "Q": Q, "G": G}.items():
        lazy.to_zarr(tmp_path / name)
        np.testing.assert_array_equal(zarr.open_array(tmp_path / name, mode="r")[:], lazy.compute())


def test_a_rewritten_zarr_array_is_read_anew(forms):
    old = arrays.squared_distances(forms["zarr"]).persist()
    forms["zarr"][:] = 2.0 * forms["zarr"][:]
    new = arrays.squared_distances(forms["zarr"])
    together = dask.compute(old, new)
    np.testing.assert_array_equal(together[1], 4.0 * together[0])
    assert old.name != new.name


@pytest.mark.usefixtures("small_blocks")
def test_threads_and_one_thread_give_the_same_bits(forms, embedding):
    lazy = literal(forms["ragged"], embedding, perplexity=9)
    for alone, together in zip(
        dask.compute(*lazy, scheduler="synchronous"),
        dask.compute(*lazy, scheduler="threads", num_workers=4),
        strict=True,
    ):
        np.testing.assert_array_equal(alone, together)


def test_inputs_are_left_alone(data, embedding):
    x = da.from_array(data).persist()
    distances = arrays.squared_distances(x).persist()
    before = data.copy(), embedding.copy(), distances.compute().copy()
    dask.compute(*literal(x, embedding, perplexity=9))
    arrays.conditional_probabilities(distances, perplexity=9, metric="precomputed").compute()
    for value, same in zip((data, embedding, distances.compute()), before, strict=True):
        np.testing.assert_array_equal(value, same)


@pytest.mark.skipif(not hasattr(da, "array_expr_enabled"), reason="Dask has no array expressions")
def test_with_dask_array_expressions():
    """Dask's coming default, which has to be chosen before dask.array is imported."""
    script = """
import dask.array as da, numpy as np
from dasksne import arrays
assert da.array_expr_enabled()
x = da.from_array(np.random.default_rng(0).normal(size=(20, 3)), chunks=((3, 9, 8), 2))
P = arrays.conditional_probabilities(x, perplexity=5)
Q = arrays.embedding_probabilities(x)
assert np.allclose(P.compute().sum(axis=1), 1.0)
assert arrays.kl_divergence(P, Q).compute() > 0.0
assert np.allclose(arrays.gradient(P, Q, x).compute().sum(axis=0), 0.0)
"""
    environment = os.environ | {"DASK_ARRAY__QUERY_PLANNING": "True"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


# Input that is refused


def of_unknown_length():
    x = da.from_array(np.arange(12.0).reshape(6, 2), chunks=(3, 2))
    return x[x[:, 0] > 3.0]


def of_sparse_blocks():
    blocks = da.ones((6, 2), chunks=(3, 2))
    return blocks.map_blocks(scipy.sparse.csr_array, meta=scipy.sparse.csr_array((0, 0)))


@pytest.mark.usefixtures("nothing_computes")
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(5), "2 dimensions"),
        (np.zeros((5, 2, 2)), "2 dimensions"),
        (np.zeros((1, 3)), "at least 2 rows"),
        (np.zeros((0, 3)), "at least 2 rows"),
        (np.zeros((5, 0)), "1 column"),
        (np.zeros((5, 2), dtype=complex), "complex128"),
        (np.full((5, 2), "a"), "<U1"),
        (np.full((5, 2), None), "object"),
        (np.zeros((5, 2), dtype="M8[s]"), "datetime64"),
        (da.zeros((5, 2), dtype=complex), "complex128"),
        (da.zeros(5), "2 dimensions"),
        (da.zeros((1, 3)), "at least 2 rows"),
        (of_unknown_length(), r"Y\.compute_chunk_sizes\(\)|X\.compute_chunk_sizes\(\)"),
        (scipy.sparse.eye_array(5, 3).tocsr(), "sparse"),
        (of_sparse_blocks(), "sparse"),
        (dask.delayed(np.zeros)((5, 2)), "Delayed"),
    ],
)
def test_data_that_cannot_be_taken(x, message):
    for function in (
        arrays.squared_distances,
        arrays.conditional_probabilities,
        arrays.embedding_probabilities,
    ):
        with pytest.raises(InvalidInputError, match=message):
            function(x)


def test_messages_name_the_argument():
    with pytest.raises(InvalidInputError, match=r"^X must"):
        arrays.squared_distances(np.zeros(3))
    with pytest.raises(InvalidInputError, match=r"^Y must"):
        arrays.embedding_probabilities(np.zeros(3))
    with pytest.raises(InvalidInputError, match=r"^P must"):
        arrays.kl_divergence(np.zeros(3), np.zeros((3, 3)))
    with pytest.raises(InvalidInputError, match=r"^Q must"):
        arrays.kl_divergence(np.zeros((3, 3)), np.zeros(3))


@pytest.mark.usefixtures("nothing_computes")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"perplexity": 1}, "above 1 and below N - 1 = 39, got 1"),
        ({"perplexity": 39}, "got 39"),
        ({"perplexity": -3.0}, "perplexity"),
        ({"perplexity": math.nan}, "perplexity"),
        ({"sigma": 0}, "sigma must be positive"),
        ({"sigma": -1.0}, "sigma must be positive"),
        ({"sigma": math.nan}, "sigma"),
        ({"sigma": math.inf}, "sigma"),
        ({"sigma": 1e-200}, "sigma"),
        ({"sigma": [1.0, 2.0]}, r"shape \(N,\) = \(40,\), got shape \(2,\)"),
        ({"sigma": np.ones((40, 1))}, r"got shape \(40, 1\)"),
        ({"sigma": np.arange(40)}, r"got sigma\[0\]=0"),
        ({"sigma": np.ones(40), "perplexity": 5}, "sigma=an array were both given"),
        ({"sigma": 1.0, "perplexity": 5}, "both"),
        ({"metric": "manhattan"}, "'euclidean', 'cosine' or 'precomputed', got 'manhattan'"),
        ({"metric": "manhattan", "sigma": 1.0}, "'manhattan'"),
        ({"metric": "precomputed"}, r"square, \(N, N\), got shape \(40, 5\)"),
    ],
    ids=str,
)
def test_options_that_cannot_be_taken(data, options, message):
    with pytest.raises(InvalidInputError, match=message):
        arrays.conditional_probabilities(data, **options)


@pytest.mark.usefixtures("nothing_computes")
def test_shapes_that_do_not_fit():
    square, larger, flat = np.zeros((4, 4)), np.zeros((5, 5)), np.zeros((4, 5))
    for function in (arrays.kl_divergence, lambda p, q: arrays.gradient(p, q, np.zeros((4, 2)))):
        with pytest.raises(InvalidInputError, match="P must be square"):
            function(flat, square)
        with pytest.raises(InvalidInputError, match="Q must be square"):
            function(square, flat)
        with pytest.raises(InvalidInputError, match="P and Q must have the same number of rows"):
            function(square, larger)
    with pytest.raises(InvalidInputError, match="P and Y must have the same number of rows"):
        arrays.gradient(square, square, np.zeros((5, 2)))


def test_nan_goes_where_it_must(data):
    data[3, 1] = np.nan
    D = arrays.squared_distances(data).compute()
    assert np.sum(np.isnan(D)) == 2 * 40 - 1
    for how in ({"perplexity": 9}, {"sigma": 1.0}):
        P = arrays.conditional_probabilities(data, **how).compute()
        assert np.all(np.isnan(off_diagonal(P)))

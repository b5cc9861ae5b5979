"""Metrics of a map against scikit-learn and against their definitions, pair by pair."""

import math

import dask
import dask.array as da
import numpy as np
import pytest
import reference
import scipy.sparse
import sklearn.manifold
import zarr

import dasksne
from dasksne import metrics, pairs
from dasksne.errors import InvalidInputError, StoreError

KS = (1, 5, 12, 40)


@pytest.fixture
def data(rng):
    return rng.normal(size=(120, 6))


@pytest.fixture
def embedded(data, rng):
    return data[:, :2] + 0.7 * rng.normal(size=(120, 2))


def literal_ranks(X):
    """Rank of j seen from i: 1 for the nearest; of two as near the first comes first."""
    squared = reference.squared_distances(X).tolist()
    ranks = np.zeros((len(X), len(X)), dtype=int)
    for i, row in enumerate(squared):
        others = sorted((d, j) for j, d in enumerate(row) if j != i)
        for rank, (_, j) in enumerate(others, start=1):
            ranks[i, j] = rank
    return ranks


def literal_trustworthiness(X, Y, k):
    in_data, in_map, n = literal_ranks(X), literal_ranks(Y), len(X)
    excess = sum(
        in_data[i, j] - k
        for i, j in np.ndindex(n, n)
        if i != j and in_map[i, j] <= k < in_data[i, j]
    )
    return 1.0 - 2.0 / (n * k * (2 * n - 3 * k - 1)) * excess


def literal_q_nx(X, Y):
    """From the co-ranking matrix: the mass of its upper left K x K block."""
    n = len(X)
    matrix = np.zeros((n - 1, n - 1))
    for r, s in zip(literal_ranks(X).ravel(), literal_ranks(Y).ravel(), strict=True):
        if r:
            matrix[r - 1, s - 1] += 1
    return np.array([matrix[:k, :k].sum() / (n * k) for k in range(1, n - 1)])


def literal_costs(P, Y):
    log_q = reference.log_embedding_probabilities(Y)
    return [
        math.fsum(p * (math.log(p) - q) for p, q in zip(*rows, strict=True) if p > 0.0)
        for rows in zip(P.tolist(), log_q.tolist(), strict=True)
    ]


# ---- Neighbours


@pytest.mark.parametrize("k", KS)
def test_trustworthiness_is_that_of_scikit_learn(data, embedded, k):
    expected = sklearn.manifold.trustworthiness(data, embedded, n_neighbors=k)
    found = metrics.trustworthiness(data, embedded, n_neighbors=k)
    assert isinstance(found, float)
    assert found == pytest.approx(expected, abs=1e-12)
    # Continuity is its mirror image.
    assert metrics.continuity(embedded, data, n_neighbors=k) == found


def test_precomputed_distances_are_those_of_scikit_learn(data, embedded):
    distances = np.sqrt(reference.squared_distances(data))
    for X in (distances, distances * (1.0 + 0.1 * np.tri(120))):  # not symmetric
        expected = sklearn.manifold.trustworthiness(X, embedded, metric="precomputed")
        found = metrics.trustworthiness(X, embedded, metric="precomputed")
        assert found == pytest.approx(expected, abs=1e-12)


def test_ties_go_by_index(rng):
    X, Y = rng.integers(0, 3, (60, 3)), rng.integers(0, 4, (60, 2))
    for k in (1, 4, 29):
        trusted = literal_trustworthiness(X, Y, k)
        assert metrics.trustworthiness(X, Y, n_neighbors=k) == pytest.approx(trusted, abs=1e-12)
        continuous = literal_trustworthiness(Y, X, k)
        assert metrics.continuity(X, Y, n_neighbors=k) == pytest.approx(continuous, abs=1e-12)
    np.testing.assert_allclose(metrics.quality_curve(X, Y).q_nx, literal_q_nx(X, Y), rtol=1e-13)


def test_several_numbers_of_neighbours_at_once(data, embedded):
    for function in (metrics.trustworthiness, metrics.continuity, metrics.neighbors_kept):
        found = function(data, embedded, n_neighbors=KS)
        alone = [function(data, embedded, n_neighbors=k) for k in KS]
        np.testing.assert_array_equal(found, alone)


def test_the_curve_is_that_of_the_co_ranking_matrix(data, embedded):
    n, curve = len(data), metrics.quality_curve(data, embedded)
    np.testing.assert_array_equal(curve.n_neighbors, np.arange(1, n - 1))
    np.testing.assert_allclose(curve.q_nx, literal_q_nx(data, embedded), rtol=1e-13)
    k = curve.n_neighbors
    r_nx = [((n - 1) * q - k) / (n - 1 - k) for k, q in enumerate(curve.q_nx.tolist(), start=1)]
    np.testing.assert_allclose(curve.r_nx, r_nx, rtol=1e-12, atol=1e-14)
    area = math.fsum(r / k for k, r in enumerate(r_nx, start=1)) / math.fsum(1.0 / k)
    assert curve.area == pytest.approx(area, abs=1e-13)
    kept = metrics.neighbors_kept(data, embedded, n_neighbors=k)
    np.testing.assert_allclose(kept, curve.q_nx, rtol=1e-13)


def test_a_perfect_map_and_a_random_one(data, rng):
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    perfect = metrics.quality(data, data @ rotation, n_neighbors=KS)
    np.testing.assert_array_equal(perfect.trustworthiness, 1.0)
    np.testing.assert_array_equal(perfect.continuity, 1.0)
    assert perfect.curve.area == 1.0
    random = metrics.quality_curve(data, rng.normal(size=(120, 2)))
    assert abs(random.area) < 0.02


def test_one_pass_finds_the_same(data, embedded):
    found = metrics.quality(data, embedded, n_neighbors=KS)
    assert found.n_neighbors == KS
    for name in ("trustworthiness", "continuity", "neighbors_kept"):
        expected = getattr(metrics, name)(data, embedded, n_neighbors=KS)
        np.testing.assert_array_equal(getattr(found, name), expected)
    for one, other in zip(found.curve, metrics.quality_curve(data, embedded), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_units_do_not_matter(data, embedded, scale):
    found, expected = (
        metrics.quality(s * data, s * embedded, n_neighbors=KS) for s in (scale, 1.0)
    )
    np.testing.assert_array_equal(found.trustworthiness, expected.trustworthiness)
    np.testing.assert_array_equal(found.curve.q_nx, expected.curve.q_nx)


# ---- Where X is, and where work runs


def everything(X, Y):
    found = metrics.quality(X, Y, n_neighbors=KS)
    return [
        found.trustworthiness,
        found.continuity,
        found.neighbors_kept,
        found.curve.q_nx,
        metrics.kl_per_point(X, Y, perplexity=9),
        np.array(metrics.trustworthiness(X, Y, n_neighbors=40)),
    ]


def test_every_kind_of_x_gives_the_same_bits(data, embedded, tmp_path, monkeypatch):
    expected = everything(data, embedded)
    np.save(tmp_path / "x.npy", data)
    stored = zarr.create_array(tmp_path / "x.zarr", data=data, chunks=(50, 6))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(pairs, "PANEL_BYTES", 0)
    with dask.config.set({"temporary-directory": str(scratch)}):
        for X in (
            np.load(tmp_path / "x.npy", mmap_mode="r"),
            np.asfortranarray(data),
            da.from_array(data, chunks=(37, 2)),
            stored,
        ):
            for found, known in zip(everything(X, embedded), expected, strict=True):
                np.testing.assert_array_equal(found, known)
    assert not list(scratch.iterdir())
    lazy = da.from_array(embedded, chunks=(50, 2))
    assert metrics.continuity(data, lazy) == metrics.continuity(data, embedded)


def test_every_layout_gives_the_same_bits(data, embedded, monkeypatch):
    with dask.config.set(scheduler="sync"):
        expected = everything(data, embedded)
    for threads, rows in ((1, 7), (3, 64), (2, 4)):
        monkeypatch.setattr(pairs, "MOST_PANEL_ROWS", rows)
        with dask.config.set(scheduler="threads", num_workers=threads):
            found = everything(data, embedded)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.cluster
def test_workers_find_the_same_bits(data, embedded, tmp_path):
    from distributed import Client  # noqa: PLC0415 - by this test alone

    expected = everything(data, embedded)
    model = dasksne.SNE(perplexity=9, max_iter=5, store=tmp_path / "run.zarr").fit(data)
    costs = dasksne.open_run(tmp_path / "run.zarr").kl_per_point()
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=":0"):
        for X in (data, da.from_array(data, chunks=(37, 6))):
            for one, other in zip(everything(X, embedded), expected, strict=True):
                np.testing.assert_array_equal(one, other)
        run = dasksne.open_run(tmp_path / "run.zarr")
        np.testing.assert_array_equal(run.kl_per_point(), costs)
    assert costs.sum() == pytest.approx(model.kl_divergence_, rel=1e-10)


# ---- What each point costs


@pytest.mark.parametrize("width", [{"perplexity": 9.0}, {"sigma": 1.5}, {}])
def test_costs_are_those_of_the_formula(data, embedded, width):
    X, Y = data[:60], embedded[:60]
    P = reference.conditional_probabilities(X, **(width or {"perplexity": 30.0}))
    found = metrics.kl_per_point(X, Y, **width)
    np.testing.assert_allclose(found, literal_costs(P, Y), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"perplexity": 9.0},
        {"sigma": 1.5},
        {"perplexity": 9.0, "tail_mass": 0.05},
        {"perplexity": 9.0, "metric": "precomputed"},
    ],
    ids=lambda options: "-".join(options),
)
def test_costs_sum_to_the_cost_of_the_model(data, tmp_path, options):
    if "metric" in options:
        data = np.sqrt(reference.squared_distances(data))
    store = tmp_path / "run.zarr"
    model = dasksne.SNE(**options, store=store, annealing=None, max_iter=20).fit(data)
    costs = metrics.kl_per_point(data, model.embedding_, **options)
    assert costs.shape == (120,)
    assert costs.sum() == pytest.approx(model.kl_divergence_, rel=1e-10)
    run = dasksne.open_run(store)
    np.testing.assert_allclose(run.kl_per_point(), costs, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        run.kl_per_point(), literal_costs(run.P.compute(), run.embedding), rtol=1e-9, atol=1e-12
    )
    assert run.kl_per_point().sum() == pytest.approx(model.kl_divergence_, rel=1e-10)


def test_data_in_extreme_units_costs_the_same(data, embedded, tmp_path):
    costs = metrics.kl_per_point(data, embedded, perplexity=9)
    far = np.ldexp(data, 450)
    np.testing.assert_allclose(metrics.kl_per_point(far, embedded, perplexity=9), costs, rtol=1e-12)
    model = dasksne.SNE(perplexity=9, store=tmp_path / "run.zarr", max_iter=5).fit(far)
    found = dasksne.open_run(tmp_path / "run.zarr").kl_per_point()
    assert found.sum() == pytest.approx(model.kl_divergence_, rel=1e-10)


# ---- Runs


def test_a_run_is_judged_by_what_it_keeps(data, tmp_path):
    model = dasksne.SNE(perplexity=9, max_iter=5, store=tmp_path / "run.zarr").fit(data)
    found = dasksne.open_run(tmp_path / "run.zarr").quality(n_neighbors=KS)
    expected = metrics.quality(data, model.embedding_, n_neighbors=KS)
    for one, other in zip(found[:4], expected[:4], strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.curve.area == expected.curve.area


def test_a_run_without_a_map_is_not_judged(data, tmp_path):
    def look(_):
        with pytest.raises(StoreError, match="has no embedding; its status is 'started'"):
            dasksne.open_run(tmp_path / "run.zarr").quality()
        return True

    dasksne.SNE(perplexity=9, store=tmp_path / "run.zarr", callbacks=look).fit(data)


# ---- What is refused


@pytest.mark.parametrize("k", [60, 0, [5, 60], 2.5, [], [[1]]])
@pytest.mark.parametrize("function", [metrics.trustworthiness, metrics.continuity])
def test_numbers_of_neighbours_that_cannot_be(data, embedded, function, k):
    with pytest.raises(InvalidInputError, match="n_neighbors="):
        function(data, embedded, n_neighbors=k)


def test_limits_are_those_of_scikit_learn(data, embedded):
    with pytest.raises(ValueError, match="n_neighbors"):
        sklearn.manifold.trustworthiness(data, embedded, n_neighbors=60)
    expected = sklearn.manifold.trustworthiness(data, embedded, n_neighbors=59)
    found = metrics.trustworthiness(data, embedded, n_neighbors=59)
    assert found == pytest.approx(expected, abs=1e-12)
    assert metrics.neighbors_kept(data, embedded, n_neighbors=119) == 1.0
    with pytest.raises(InvalidInputError, match="less than N = 120"):
        metrics.neighbors_kept(data, embedded, n_neighbors=120)


def test_what_is_no_pair_of_data_and_map(data, embedded):
    with pytest.raises(InvalidInputError, match="X has 120 points and Y 119"):
        metrics.trustworthiness(data, embedded[1:])
    with pytest.raises(InvalidInputError, match="first in row 7"):
        metrics.trustworthiness(np.where(data == data[7, 0], np.nan, data), embedded)
    with pytest.raises(ValueError, match="Input Y contains NaN"):
        metrics.trustworthiness(data, np.where(embedded == embedded[7, 0], np.nan, embedded))
    with pytest.raises(InvalidInputError, match="square matrix"):
        metrics.trustworthiness(data, embedded, metric="precomputed")
    with pytest.raises(InvalidInputError, match="metric='manhattan' is not known"):
        metrics.trustworthiness(data, embedded, metric="manhattan")
    with pytest.raises(InvalidInputError, match="at least 3 points"):
        metrics.quality_curve(data[:2], embedded[:2])


def test_widths_that_cannot_be(data, embedded):
    with pytest.raises(InvalidInputError, match="give one of the two"):
        metrics.kl_per_point(data, embedded, perplexity=5, sigma=1)
    with pytest.raises(InvalidInputError, match="below N - 1 = 119"):
        metrics.kl_per_point(data, embedded, perplexity=119)
    with pytest.raises(InvalidInputError, match="tail_mass=1"):
        metrics.kl_per_point(data, embedded, tail_mass=1)
    with pytest.raises(InvalidInputError, match="sigma=1e-180 is too small"):
        metrics.kl_per_point(data, embedded, sigma=1e-180)


def test_sparse_features_are_those_of_the_dense_ones(rng):
    X, Y = rng.random((60, 8)) * (rng.random((60, 8)) > 0.5), rng.normal(size=(60, 2))
    sparse, dense = (metrics.trustworthiness(x, Y) for x in (scipy.sparse.csr_array(X), X))
    assert sparse == dense

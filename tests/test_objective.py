import math
from dataclasses import replace

import numpy as np
import pytest
import reference
from engine import objective_of
from hypothesis import given
from hypothesis import strategies as st

from dasksne import arrays, repulsion
from dasksne.run import Run

PERPLEXITY = 10.0


def assert_agrees(found, expected, Y):
    """Hold cost and gradient to the exactness that is promised in float64."""
    cost, gradient = expected
    assert found.cost == pytest.approx(cost, rel=1e-12)
    assert reference.gradient_error(found.gradient, gradient, Y) <= 1e-12


def assert_agrees_with_the_oracle(X, Y):
    P = reference.vectorised_conditional_probabilities(X, PERPLEXITY)
    with objective_of(X, perplexity=PERPLEXITY) as objective:
        assert_agrees(objective(Y), reference.vectorised_evaluation(P, Y), Y)


def literal(X, Y, perplexity):
    P = arrays.conditional_probabilities(X, perplexity=perplexity)
    Q = arrays.embedding_probabilities(Y)
    return float(arrays.kl_divergence(P, Q)), arrays.gradient(P, Q, Y).compute()


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("scale", [0.01, 0.3, 2.0])
def test_it_agrees_with_the_literal_form(rng, d, scale):
    X, Y = rng.normal(size=(150, 6)), scale * rng.normal(size=(150, d))
    with objective_of(X, perplexity=PERPLEXITY) as objective:
        assert_agrees(objective(Y), literal(X, Y, PERPLEXITY), Y)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("far", [0.0, 50.0])
def test_it_agrees_with_the_oracle(rng, d, scale, far):
    X, Y = rng.normal(size=(150, 6)), scale * rng.normal(size=(150, d))
    Y[7, 0] += far
    assert_agrees_with_the_oracle(X, Y)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_a_point_at_a_million(rng, d):
    """The attraction itself is of size 10^5 then, and is held to what it adds up."""
    X, Y = rng.normal(size=(150, 6)), rng.normal(size=(150, d))
    Y[7, 0] += 1e6
    P = reference.vectorised_conditional_probabilities(X, PERPLEXITY)
    cost, gradient = reference.vectorised_evaluation(P, Y)
    distance = np.sqrt(reference.vectorised_squared_distances(Y))
    scale = reference.gradient_scale(Y) + np.sum((P + P.T) * distance, axis=1)
    with objective_of(X, perplexity=PERPLEXITY) as objective:
        found = objective(Y)
    assert found.cost == pytest.approx(cost, rel=1e-12)
    assert np.max(np.linalg.norm(found.gradient - gradient, axis=1) / scale) <= 1e-12


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_a_map_far_from_zero(rng, d):
    assert_agrees_with_the_oracle(rng.normal(size=(150, 6)), rng.normal(size=(150, d)) + 1e6)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_two_clusters_far_apart(rng, d):
    """What each pulls at its own points is as small beside the map as an energy can be."""
    X, Y = rng.normal(size=(150, 6)), rng.normal(size=(150, d))
    X[75:] += 1e3
    Y[75:] += 1e4
    assert_agrees_with_the_oracle(X, Y)


@given(
    st.integers(4, 24),
    st.integers(1, 5),
    st.integers(1, 4),
    st.floats(0.05, 0.95),
    st.integers(1, 30),
    st.integers(1, 4),
    st.sampled_from(["memory", "recompute"]),
    st.integers(0, 2**32 - 1),
)
def test_any_problem_and_layout(n, n_features, d, share, block_rows, shards, storage, seed):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(n, n_features)), rng.normal(size=(n, d))
    perplexity = 1.0 + share * (n - 2)
    P = reference.conditional_probabilities(X, perplexity=perplexity)
    layout = {"block_rows": block_rows, "shards": shards, "p_storage": storage}
    with objective_of(X, perplexity=perplexity, n_components=d, **layout) as objective:
        assert_agrees(objective(Y), (reference.cost(P, Y), reference.gradient(P, Y)), Y)


def test_the_gradient_is_that_of_the_cost(rng):
    X, Y = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))
    with objective_of(X, perplexity=PERPLEXITY) as objective:
        expected = reference.central_differences(lambda y: objective(y).cost, Y)
        np.testing.assert_allclose(objective(Y).gradient, expected, atol=1e-7)


@pytest.mark.parametrize("sigma", [0.8, 3.0])
def test_one_width_for_all(rng, sigma):
    X, Y = rng.normal(size=(25, 4)), rng.normal(size=(25, 2))
    P = reference.conditional_probabilities(X, sigma=sigma)
    with objective_of(X, sigma=sigma) as objective:
        assert_agrees(objective(Y), (reference.cost(P, Y), reference.gradient(P, Y)), Y)


def test_every_layout_and_storage_has_the_same_bits(rng, tmp_path):
    run = Run.locate(tmp_path / "run.zarr")
    run.create(overwrite=False)
    X, Y = rng.normal(size=(1300, 700)), rng.normal(size=(1300, 2))
    found = []
    for layout in (
        {},
        {"block_rows": 1300},
        {"block_rows": 100, "shards": 4},
        {"p_storage": "zarr", "block_rows": 200},
        {"p_storage": "recompute", "block_rows": 200},
    ):
        with objective_of(X, perplexity=PERPLEXITY, run=run, **layout) as objective:
            found.append(objective(Y))
    for one in found[1:]:
        assert one.cost == found[0].cost
        np.testing.assert_array_equal(one.gradient, found[0].gradient)


def test_fourier_sums_give_what_all_pairs_give(rng):
    X, Y = rng.normal(size=(6000, 3)), 4.0 * rng.normal(size=(6000, 2))
    found = []
    for way in ("direct", "fourier"):
        with objective_of(X, perplexity=PERPLEXITY, repulsion=way) as objective:
            found.append(objective(Y))
    assert found[1].cost == pytest.approx(found[0].cost, rel=1e-10)
    error = np.linalg.norm(found[1].gradient - found[0].gradient, axis=1)
    assert 0.0 < error.max() <= 1e-8


@pytest.mark.parametrize("rows", [1000, 10_000])
def test_where_most_rows_are_isolated_all_pairs_are_summed(rng, monkeypatch, rows):
    """As they are at a tolerance that Fourier sums can hardly meet."""
    monkeypatch.setattr(repulsion, "FOURIER_ROWS", rows)
    X, Y = rng.normal(size=(3000, 3)), 5.0 * rng.normal(size=(3000, 2))
    found = []
    for way in ("direct", "fourier"):
        with objective_of(X, perplexity=PERPLEXITY, repulsion=way) as objective:
            found.append(replace(objective, repulsion_rtol=1e-12)(Y))
    assert found[1].cost == found[0].cost
    np.testing.assert_array_equal(found[1].gradient, found[0].gradient)


def test_rotation_and_translation_change_nothing(rng):
    X, Y = rng.normal(size=(80, 5)), rng.normal(size=(80, 2))
    turn = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    with objective_of(X, perplexity=PERPLEXITY) as objective:
        here, there = objective(Y), objective(Y @ turn + [3.0, -2.0])
    assert there.cost == pytest.approx(here.cost, rel=1e-13)
    np.testing.assert_allclose(there.gradient, here.gradient @ turn, atol=1e-12)


def test_the_gradient_sums_to_zero(rng):
    X, Y = rng.normal(size=(80, 5)), 3.0 * rng.normal(size=(80, 2))
    with objective_of(X, perplexity=PERPLEXITY) as objective:
        np.testing.assert_allclose(objective(Y).gradient.sum(axis=0), 0.0, atol=1e-12)


def test_a_constant_map_has_a_known_cost(rng):
    X = rng.normal(size=(80, 5))
    with objective_of(X, perplexity=PERPLEXITY) as objective:
        found = objective(np.full((80, 2), 3.0))
    assert found.cost == pytest.approx(80 * (math.log(79) - math.log(PERPLEXITY)), rel=1e-12)
    np.testing.assert_array_equal(found.gradient, 0.0)


def test_a_map_that_is_not_finite_has_no_finite_cost(rng):
    X, Y = rng.normal(size=(30, 5)), rng.normal(size=(30, 2))
    Y[3, 1] = np.inf
    with objective_of(X, perplexity=PERPLEXITY) as objective:
        found = objective(Y)
    assert np.isnan(found.cost)
    assert np.isnan(found.gradient).all()


def test_the_attraction_is_a_laplacian(rng):
    X, V = rng.normal(size=(60, 5)), rng.normal(size=(60, 3))
    P = reference.vectorised_conditional_probabilities(X, PERPLEXITY)
    S = P + P.T
    with objective_of(X, perplexity=PERPLEXITY, block_rows=20, shards=2) as objective:
        np.testing.assert_allclose(
            objective.attraction(V), S.sum(axis=1)[:, None] * V - S @ V, atol=1e-12
        )


def test_the_map_is_left_alone(rng):
    X, Y = rng.normal(size=(60, 5)), rng.normal(size=(60, 2))
    before = Y.copy()
    with objective_of(X, perplexity=PERPLEXITY) as objective:
        objective(Y)
    np.testing.assert_array_equal(Y, before)


@pytest.mark.parametrize("repulsion", ["direct", "fourier"])
@pytest.mark.parametrize("storage", ["memory", "zarr", "recompute"])
def test_several_maps_at_once_have_the_bits_that_each_has_alone(rng, tmp_path, storage, repulsion):
    run = Run.locate(tmp_path / "run.zarr")
    run.create(overwrite=False)
    X, maps = rng.normal(size=(300, 5)), [10.0**k * rng.normal(size=(300, 2)) for k in (0, -3, 1)]
    maps[2][7, 0] = np.nan
    layout = {"block_rows": 50, "shards": 3, "p_storage": storage, "repulsion": repulsion}
    with objective_of(X, perplexity=PERPLEXITY, run=run, **layout) as objective:
        together, alone = objective.evaluate_all(maps), [objective(y) for y in maps]
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found.cost, expected.cost)
        np.testing.assert_array_equal(found.gradient, expected.gradient)
    assert np.isnan(together[2].cost)
    assert np.isfinite([together[0].cost, together[1].cost]).all()


def test_several_maps_share_one_pass_over_the_shards(rng, tmp_path, monkeypatch):
    run = Run.locate(tmp_path / "run.zarr")
    run.create(overwrite=False)
    X, maps = rng.normal(size=(200, 5)), list(rng.normal(size=(5, 200, 2)))
    reads = []
    plain = Run.read_whole
    layout = {"block_rows": 50, "shards": 2, "p_storage": "zarr"}
    with objective_of(X, perplexity=PERPLEXITY, run=run, **layout) as objective:
        monkeypatch.setattr(Run, "read_whole", lambda *given: reads.append(given) or plain(*given))
        objective.evaluate_all(maps)
    assert len(reads) == 4

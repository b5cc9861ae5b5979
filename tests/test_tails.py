"""What is said of dropped tails, against the literal gradients of both P."""

import numpy as np
import pytest
import reference
from engine import NOTHING, calibrate, plan_of, source_of
from sklearn.datasets import load_digits

import dasksne
from dasksne.affinities import Width, make_width
from dasksne.executor import current_executor
from dasksne.executor.threads import ThreadExecutor
from dasksne.job import make_schedule
from dasksne.kernels.probabilities import conditional_probabilities
from dasksne.source import ArrayRows, Features
from dasksne.tails import column_losses, error_bounds, gradient_errors, whole_rows


def gradients(distances, found, y):
    P = np.empty_like(distances)
    conditional_probabilities(distances, 0, found, P)
    return P, reference.vectorised_evaluation(P, y)[1]


def digits(_):
    return load_digits().data[:600]


def hubs(rng):
    return rng.normal(size=(500, 100))


def crowds(rng):
    """Two crowds and a line, of very different widths, and copies."""
    crowd = rng.normal(size=(150, 3))
    line = np.linspace(0.0, 40.0, 100)[:, np.newaxis] * np.ones(3)
    return np.concatenate([crowd, 30.0 + 0.01 * crowd, line, crowd[:20]])


@pytest.mark.parametrize("data", [digits, hubs, crowds])
@pytest.mark.parametrize("tail_mass", [1e-6, 1e-3, 0.1])
def test_bound_holds_at_every_point_and_is_not_vacuous(rng, data, tail_mass):
    X = data(rng)
    n = len(X)
    y = 2.0 * rng.normal(size=(n, 2))
    source = Features(ArrayRows(X))
    distances = source.panel(slice(0, n))
    cut = Width(15.0, None, tail_mass).calibrate(distances, 0)
    P, after = gradients(distances, cut, y)
    difference = after - gradients(distances, whole_rows(cut), y)[1]
    true = np.sqrt(np.sum(difference**2, axis=1))
    with current_executor() as executor:
        lost = column_losses(executor, source, cut, tail_mass, [slice(0, 200), slice(200, n)])
        errors = gradient_errors(executor, source, cut, y)
    bounds = error_bounds(cut, y, 1.0 + P.sum(axis=0), lost, tail_mass)
    assert np.all(true <= bounds)
    assert bounds.max() <= 15.0 * true.max()
    np.testing.assert_allclose(errors, true, rtol=1e-6, atol=1e-13)


def test_tasks_that_share_memory_find_what_columns_lose_as_they_calibrate():
    X = load_digits().data[:600]
    plan, source, lost = plan_of(X), source_of(X), {}
    width = make_width(15.0, None, 1e-3, source.exponent)
    with ThreadExecutor(2) as executor:
        cut = calibrate(executor, source, width, plan, NOTHING._replace(lost=lost))
        expected = column_losses(executor, source, cut, 1e-3, plan.shard_rows)
    assert expected.min() > 0
    np.testing.assert_array_equal(np.sum(list(lost.values()), axis=0), expected)


def test_a_run_says_what_it_dropped(tmp_path):
    X = load_digits().data[:400]
    options = {"perplexity": 10, "random_state": 0, "annealing": None, "max_iter": 5}
    model = dasksne.SNE(**options, tail_mass=1e-3, store=tmp_path / "run.zarr").fit(X)
    P = dasksne.open_run(tmp_path / "run.zarr").P.compute()
    tails = model.report_["tails"]
    assert tails["kept_share"] == pytest.approx(np.count_nonzero(P) / (400 * 399), rel=1e-12)
    assert tails["perplexity_left"] == pytest.approx(
        np.mean(np.exp(reference.row_entropies(P))), rel=1e-10
    )
    assert 0.0 < tails["mean_dropped"] <= tails["largest_dropped"] <= 1e-3
    assert 0.0 < tails["largest_error"] <= tails["largest_bound"]
    np.testing.assert_allclose(P.sum(axis=1), 1.0, rtol=1e-12)
    cost, _ = reference.vectorised_evaluation(P, model.embedding_)
    assert model.kl_divergence_ == pytest.approx(cost, rel=1e-10)
    assert dasksne.resume(tmp_path / "run.zarr").report_["tails"] == tails


@pytest.mark.parametrize("p_storage", ["memory", "zarr", "recompute"])
def test_storage_changes_nothing(p_storage):
    X = load_digits().data[:500]
    options = {"perplexity": 10, "random_state": 0, "annealing": None, "max_iter": 10}
    expected = dasksne.SNE(**options, tail_mass=1e-4, block_rows=64).fit(X)
    model = dasksne.SNE(**options, tail_mass=1e-4, p_storage=p_storage).fit(X)
    np.testing.assert_allclose(model.embedding_, expected.embedding_, rtol=1e-9, atol=1e-11)


def test_a_plan_counts_what_is_kept():
    X = load_digits().data
    whole, cut = (dasksne.SNE(tail_mass=t, annealing=None).plan(X) for t in (0.0, 0.1))
    assert whole.kept_share == 1.0
    assert 0.0 < cut.kept_share < 0.1
    assert cut.s_bytes < whole.s_bytes / 4
    assert dasksne.SNE(tail_mass=0.1).plan(X).s_bytes == whole.s_bytes  # its first stages are dense


def test_many_points_start_at_the_target():
    settings = dasksne.SNE()._settings()
    assert [stage.perplexity for stage in make_schedule(settings, 20_001)] == [30.0]
    assert len(make_schedule(settings, 20_000)) > 1

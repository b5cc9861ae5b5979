"""A width for each point: P, the run that keeps the widths, and what they do not go with."""

import dask
import dask.array as da
import numpy as np
import pytest
import reference
from same import assert_same_map

import dasksne
from dasksne import metrics
from dasksne.errors import InvalidInputError
from dasksne.finished import create_calibration
from dasksne.run import Run

N = 90


@pytest.fixture
def data(rng):
    return rng.normal(size=(N, 5))


@pytest.fixture
def sigma(rng):
    return rng.uniform(0.7, 2.5, size=N)


def sne(sigma, **options):
    given = {"sigma": sigma, "max_iter": 8, "random_state": 3, "block_rows": 32}
    return dasksne.SNE(**{**given, **options})


def test_p_is_that_of_the_formula(data, sigma):
    expected = reference.conditional_probabilities(data, sigma=sigma)
    for given in (sigma, list(sigma)):
        P = dasksne.conditional_probabilities(da.from_array(data, chunks=40), sigma=given)
        np.testing.assert_allclose(P.compute(), expected, rtol=1e-11)


@pytest.mark.parametrize("p_storage", ["memory", "zarr", "recompute"])
@pytest.mark.parametrize("scale", [1.0, 2.0**400])
def test_the_cost_is_that_of_the_formula(data, sigma, p_storage, scale):
    """Rows are in several blocks: each has the widths of its own points."""
    model = sne(scale * sigma, p_storage=p_storage).fit(scale * data)
    P = reference.conditional_probabilities(data, sigma=sigma)
    cost, _ = reference.vectorised_evaluation(P, model.embedding_)
    assert model.kl_divergence_ == pytest.approx(cost, rel=1e-11)


def test_one_width_is_the_same_for_all(data):
    expected = sne(1.5).fit(data)
    found = sne(np.full(N, 1.5)).fit(data)
    np.testing.assert_allclose(found.embedding_, expected.embedding_, rtol=1e-9)


def test_tails_are_dropped(data, sigma):
    model = sne(sigma, tail_mass=1e-2).fit(data)
    assert model.report_["tails"]["largest_error"] <= model.report_["tails"]["largest_bound"]
    assert 0.0 < model.report_["tails"]["largest_dropped"] <= 1e-2


def test_what_each_point_costs(data, sigma, tmp_path):
    model = sne(sigma, store=tmp_path / "run.zarr").fit(data)
    costs = metrics.kl_per_point(data, model.embedding_, sigma=sigma)
    assert costs.sum() == pytest.approx(model.kl_divergence_, rel=1e-11)
    run = dasksne.open_run(tmp_path / "run.zarr")
    np.testing.assert_allclose(run.kl_per_point(), costs, rtol=1e-9)
    np.testing.assert_allclose(run.precision, sigma**-2.0, rtol=1e-14)


def test_a_run_keeps_them(data, sigma, tmp_path):
    expected = sne(sigma).fit(data)

    def interrupt(event):
        if event.iteration == 3:
            raise KeyboardInterrupt

    with dask.config.set(scheduler="sync"), pytest.raises(KeyboardInterrupt):
        sne(sigma, store=tmp_path / "run.zarr", callbacks=interrupt).fit(data)
    create_calibration(Run.locate(tmp_path / "run.zarr"), N, 32)  # so that all is found again
    found = dasksne.resume(tmp_path / "run.zarr")
    assert_same_map(found, expected)
    np.testing.assert_array_equal(found.sigma, sigma)


def test_new_points_have_none(data, sigma, tmp_path):
    model = sne(sigma, store=tmp_path / "run.zarr").fit(data)
    for fitted in (model, dasksne.resume(tmp_path / "run.zarr")):
        with pytest.raises(InvalidInputError, match="a sigma for each of its points, and new"):
            fitted.transform(data[:3])


def test_widths_that_cannot_be_taken(data, sigma):
    sigma[7] = 1e-200
    with pytest.raises(InvalidInputError, match=r"sigma\[7\]=1e-200 is so small"):
        sne(sigma).fit(data)
    with pytest.raises(InvalidInputError, match=r"sigma\[7\]=1e-200 is too small"):
        metrics.kl_per_point(data, data[:, :2], sigma=sigma)
    for given, message in ((sigma[1:], "sigma has 89 values for 90"), (["a"], "array of numbers")):
        with pytest.raises(InvalidInputError, match=message):
            sne(given).fit(data)
        with pytest.raises(InvalidInputError, match=message):
            metrics.kl_per_point(data, data[:, :2], sigma=given)

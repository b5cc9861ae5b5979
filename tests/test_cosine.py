"""metric="cosine": the run of the rows' directions, whatever their lengths."""

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from sklearn.metrics.pairwise import cosine_distances

import dasksne
from dasksne.errors import InvalidInputError
from dasksne.kernels.distances import directions

N = 120
OPTIONS = {"perplexity": 8.0, "max_iter": 20, "random_state": 0}


@pytest.fixture
def points(rng):
    found = rng.normal(size=(N, 6))
    found[found < -1.0] = 0.0
    return found * np.exp(rng.normal(size=(N, 1)))


def test_directions_have_length_one_whatever_the_rows_are_like(points):
    lengths = np.logspace(-300, 300, N)[:, np.newaxis]
    found = directions(points * lengths)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-15)
    np.testing.assert_allclose(
        found, points / np.linalg.norm(points, axis=1, keepdims=True), rtol=1e-12
    )


@pytest.mark.parametrize(
    "options", [{}, {"p_storage": "recompute"}, {"tail_mass": 0.01}, {"init": "spectral"}]
)
def test_it_is_the_run_of_directions(points, tmp_path, options):
    expected = dasksne.SNE(**OPTIONS, **options).fit(directions(points))
    for data, store in (
        (points, None),
        (points, tmp_path / "run.zarr"),
        (da.from_array(points, chunks=(50, 4)), None),
        (scipy.sparse.csr_array(points), None),
    ):
        model = dasksne.SNE(metric="cosine", store=store, **OPTIONS, **options).fit(data)
        np.testing.assert_array_equal(model.embedding_, expected.embedding_)
    np.testing.assert_array_equal(
        dasksne.resume(tmp_path / "run.zarr").transform(points[:9] * 3.0),
        expected.transform(directions(points[:9] * 3.0)),
    )


def test_lengths_of_rows_do_not_count(points):
    """Also where their squares would overflow; rounding aside, which iterations amplify."""
    options = OPTIONS | {"max_iter": 0}
    plain = dasksne.SNE(metric="cosine", **options).fit(points)
    lengths = np.logspace(-200, 200, N)[:, np.newaxis]
    other = dasksne.SNE(metric="cosine", **options).fit(points * lengths)
    np.testing.assert_allclose(other.kl_divergence_, plain.kl_divergence_, rtol=1e-10)


def test_p_is_that_of_cosines(points, tmp_path):
    P = dasksne.conditional_probabilities(
        da.from_array(points, chunks=(50, 4)), perplexity=8, metric="cosine"
    ).compute()
    distances = np.sqrt(2.0 * cosine_distances(points))
    expected = dasksne.conditional_probabilities(distances, perplexity=8, metric="precomputed")
    np.testing.assert_allclose(P, expected.compute(), rtol=1e-9, atol=1e-300)
    dasksne.SNE(metric="cosine", store=tmp_path / "run.zarr", **OPTIONS).fit(points)
    np.testing.assert_allclose(dasksne.open_run(tmp_path / "run.zarr").P.compute(), P, rtol=1e-9)


@pytest.mark.parametrize("lazy", [False, True])
def test_rows_without_direction_are_refused(points, lazy):
    points[[7, 9]] = 0.0
    data = da.from_array(points, chunks=(50, 6)) if lazy else points
    with pytest.raises(InvalidInputError, match=r"X is zero in row 7, .* remove such rows"):
        dasksne.SNE(metric="cosine", **OPTIONS).fit(data)
    model = dasksne.SNE(metric="cosine", **OPTIONS).fit(np.delete(points, [7, 9], axis=0))
    with pytest.raises(InvalidInputError, match="X is zero in row 7"):
        np.asarray(model.transform(data))
    points[3, 2] = np.nan
    with pytest.raises(InvalidInputError, match="NaN or infinity in 1 of its 120 rows"):
        dasksne.SNE(metric="cosine", **OPTIONS).fit(points)

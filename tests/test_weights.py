"""Points that count more than once: a weighted fit against the fit of the data with copies."""

import dask.array as da
import numpy as np
import pytest

import dasksne
from dasksne import repulsion
from dasksne.errors import InvalidInputError, StoreError
from dasksne.job import make_schedule
from dasksne.kernels.tiling import cheapest_tiling
from dasksne.optimise.harmonics import independent_columns
from dasksne.planning import sampled_shares
from dasksne.source import ArrayRows, Features

N = 40


@pytest.fixture
def data(rng):
    return rng.normal(size=(N, 4))


@pytest.fixture
def weights(rng):
    return rng.integers(1, 5, N).astype(float)


def copies_of(weights):
    return np.repeat(np.arange(len(weights)), weights.astype(int))


def sne(**options):
    return dasksne.SNE(**{"perplexity": 12.0, "annealing": [30.0], "max_iter": 8, **options})


def assert_same_as_copies(X, weights, rtol=1e-8, *, turned=False, **options):
    """Compare a fit with that of copies; a spectral start that wins has no signs of its own."""
    found = sne(**options).fit(X, sample_weight=weights)
    copies = copies_of(weights)
    expected = sne(**{**options, "p_storage": "memory"}).fit(X[copies])
    y, y_copies = found.embedding_[copies], expected.embedding_
    if turned:
        y = y * np.sign(np.sum(y * y_copies, axis=0))
    np.testing.assert_allclose(y, y_copies, rtol=rtol, atol=rtol)
    assert found.kl_divergence_ == pytest.approx(expected.kl_divergence_, rel=1e-10)
    for name in ("cost_per_point", "share_explained"):
        assert found.report_[name] == pytest.approx(expected.report_[name], rel=1e-9)
    for name in ("perplexity", "cost", "gradient_norm", "step", "evaluations"):
        np.testing.assert_allclose(found.history_[name], expected.history_[name], rtol=1e-6)
    return found, expected


# Wherever S is, and by either way of the repulsion


@pytest.mark.parametrize("p_storage", ["memory", "zarr", "recompute"])
def test_it_is_the_fit_of_copies(data, weights, p_storage):
    found, expected = assert_same_as_copies(data, weights, p_storage=p_storage)
    new = data + 0.3
    np.testing.assert_allclose(found.transform(new), expected.transform(new), atol=1e-8)
    np.testing.assert_array_equal(found.transform(data), found.embedding_)


@pytest.mark.parametrize("rows", [N, 15])
def test_by_fourier_sums(data, weights, rows, monkeypatch):
    monkeypatch.setattr(repulsion, "choose_tiling", cheapest_tiling)
    monkeypatch.setattr(repulsion, "FOURIER_ROWS", rows + 1)
    assert_same_as_copies(data, weights, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"annealing": "auto", "turned": True},  # from 3/4 of the copies on
        {"scale": True, "pca": 3},
        {"metric": "cosine", "annealing": None},
        {"perplexity": None, "sigma": 1.5},
    ],
    ids=str,
)
def test_with_other_options(data, weights, options):
    assert_same_as_copies(data, weights, **options)


def test_precomputed_distances(data, weights):
    distances = np.linalg.norm(data[:, None] - data, axis=2)
    options = {"metric": "precomputed", "init": data[:, :2], "annealing": None}
    found = sne(**options).fit(distances, sample_weight=weights)
    expected = sne(**{**options, "metric": "euclidean"}).fit(data, sample_weight=weights)
    np.testing.assert_allclose(found.embedding_, expected.embedding_, rtol=1e-8)
    new = data[:5] + 0.3
    placed = found.transform(np.linalg.norm(new[:, None] - data, axis=2))
    np.testing.assert_allclose(placed, expected.transform(new), rtol=1e-8)


def test_a_spectral_start_is_that_of_copies_turned_or_mirrored(data, weights):
    options = {"init": "spectral", "max_iter": 0}
    found = sne(**options).fit(data, sample_weight=weights)
    copies = copies_of(weights)
    expected = sne(**options).fit(data[copies]).embedding_
    np.testing.assert_allclose(abs(found.embedding_[copies]), abs(expected), atol=0.02)


def test_columns_of_an_eigenmap_are_chosen_by_copies(rng):
    eigenmap, weights = rng.normal(size=(30, 5)), rng.integers(1, 4, 30).astype(float)
    eigenmap[:, 1] = eigenmap[:, 0] ** 2
    copies = eigenmap[copies_of(weights)]
    found = independent_columns(eigenmap, 3, counts=weights)
    assert found == independent_columns(copies, 3)


def test_weights_of_one_change_no_bit(data):
    found, plain = sne().fit(data, sample_weight=np.ones(N)), sne().fit(data)
    np.testing.assert_array_equal(found.embedding_, plain.embedding_)


def test_weights_need_not_be_whole(data, weights):
    low, middle, high = (
        sne(init=data[:, :2], max_iter=0).fit(data, sample_weight=weights + more).kl_divergence_
        for more in (0.0, 0.5, 1.0)
    )
    assert low < middle < high


# Points without weight


def test_a_point_without_weight_is_placed_on_the_map_of_the_others(data, weights):
    weights[[3, 17]] = 0.0
    found = sne().fit(data, sample_weight=weights)
    rest = weights > 0.0
    expected = sne().fit(data[rest], sample_weight=weights[rest])
    np.testing.assert_array_equal(found.embedding_[rest], expected.embedding_)
    np.testing.assert_array_equal(found.embedding_[~rest], expected.transform(data[~rest]))
    np.testing.assert_array_equal(found.transform(data), found.embedding_)
    distances = np.linalg.norm(data[:, None] - data, axis=2)
    options = {"init": data[:, :2], "annealing": None}
    given = sne(metric="precomputed", **options).fit(distances, sample_weight=weights)
    featured = sne(**options).fit(data, sample_weight=weights)
    np.testing.assert_allclose(given.embedding_, featured.embedding_, rtol=1e-8)
    np.testing.assert_array_equal(given.transform(distances), given.embedding_)


# A run that is kept


def test_a_run_goes_on_and_is_read(data, weights, tmp_path):
    path = tmp_path / "run.zarr"
    model = sne(store=path, callbacks=lambda event: event.iteration == 3, checkpoint_seconds=0)
    model.fit(data, sample_weight=weights)
    expected = sne().fit(data, sample_weight=weights)
    again = dasksne.resume(path)
    np.testing.assert_array_equal(again.embedding_, model.embedding_)
    np.testing.assert_array_equal(again.transform(data + 0.2), model.transform(data + 0.2))
    costs = dasksne.open_run(path).kl_per_point()
    assert np.sum(weights * costs) == pytest.approx(model.kl_divergence_, rel=1e-10)
    with pytest.raises(StoreError, match="another array sample_weight"):
        sne(store=path).fit(data, sample_weight=weights + 1.0)
    with pytest.raises(StoreError, match="sample_weight='array' where None is asked for"):
        sne(store=path).fit(data)
    assert expected.kl_divergence_ < model.kl_divergence_


def test_a_run_that_was_killed_goes_on_to_the_same_bits(data, weights, tmp_path):
    path = tmp_path / "run.zarr"

    def stop(event):
        if event.n_stages == event.stage + 1 and event.iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sne(store=path, callbacks=stop).fit(data, sample_weight=weights)
    found = dasksne.resume(path)
    expected = sne().fit(data, sample_weight=weights)
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)


# Larger data


def test_many_points_start_at_the_target_without_a_coarse_stage(monkeypatch):
    seen = []
    monkeypatch.setattr(dasksne.SNE, "_fit_all", lambda *given: seen.append(given[2]))
    monkeypatch.setattr(dasksne.SNE, "_keep", lambda *_: None)
    for given in (None, np.full(30_000, 2.0)):
        dasksne.SNE().fit(np.zeros((30_000, 1)), sample_weight=given)
    plain, weighted = seen
    source = Features(ArrayRows(np.random.default_rng(0).normal(size=(30_000, 2))))
    assert sampled_shares(source, plain).coarse > 0.0
    assert sampled_shares(source, weighted).coarse == 0.0
    assert [stage.perplexity for stage in make_schedule(weighted, 30_000)] == [30.0]


# What is refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.full(N, 0.5), r"sample_weight\[0\] = 0.5; .*multiply all"),
        ([1.0] * (N - 1) + [np.nan], rf"sample_weight\[{N - 1}\] = nan"),
        ([np.inf] + [1.0] * (N - 1), r"sample_weight\[0\] = inf"),
        ([1.0] * (N - 1) + [-1.0], rf"sample_weight\[{N - 1}\] = -1"),
        ([1.0] * 5, rf"shape \(5,\); it must be \({N},\)"),
        (["a"] * N, "array of numbers"),
        ([1.0] + [0.0] * (N - 1), "zero for all but 1 points"),
    ],
)
def test_weights_that_are_refused(data, given, message):
    with pytest.raises(InvalidInputError, match=message):
        sne().fit(data, sample_weight=given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tail_mass": 1e-3}, "tail_mass=0.001 does not go with sample_weight"),
        ({"optimizer": "momentum"}, "optimizer='momentum'"),
        ({"perplexity": 79.0}, "below N - 1 = 79"),
    ],
)
def test_options_that_do_not_go_with_weights(data, options, message):
    with pytest.raises(InvalidInputError, match=message):
        sne(**options).fit(data, sample_weight=np.full(N, 2.0))


@pytest.mark.parametrize("weights", [np.full(N, 2.0), np.arange(N) > 3], ids=["two", "none"])
def test_affinities_do_not_go_with_weights(data, weights):
    affinities = np.exp(-np.linalg.norm(data[:, None] - data, axis=2)) - np.eye(N)
    with pytest.raises(InvalidInputError, match="say nothing of what copies"):
        dasksne.SNE(metric="affinities").fit(affinities, sample_weight=weights)


def test_a_plan_counts_points_as_the_fit_does(data):
    model = sne(perplexity=60.0)
    with pytest.raises(InvalidInputError, match="below N - 1 = 39"):
        model.plan(data)
    weights = np.where(np.arange(N) > 3, 2.0, 0.0)
    assert model.plan(data, sample_weight=weights).n_points == N - 4


@pytest.mark.parametrize("bad", [2, 7])
def test_bad_values_are_named_by_their_rows_before_the_fit(data, bad):
    """Of points that are only placed, too."""
    weights = np.where(np.arange(N) >= 5, 1.0, 0.0)
    data[bad, 1] = np.nan

    def fail(_):
        pytest.fail("the fit has begun")

    with pytest.raises(InvalidInputError, match=f"in 1 of its {N} rows, first in row {bad}"):
        sne(callbacks=fail).fit(data, sample_weight=weights)


def test_where_a_point_without_weight_is_refused(data, tmp_path):
    weights = np.ones(N)
    weights[7] = 0.0
    given = [
        (sne(store=tmp_path / "run.zarr"), data, "with store="),
        (sne(), da.from_array(data), "Dask collection"),
        (sne(perplexity=None, sigma=np.ones(N)), data, "sigma for each point"),
    ]
    for model, X, where in given:
        with pytest.raises(InvalidInputError, match=rf"sample_weight\[7\] = 0.*{where}"):
            model.fit(X, sample_weight=weights)

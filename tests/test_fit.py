"""Stages, iterations, events and history, as a callback and a user see them."""

import math
from unittest import mock

import numpy as np
import pytest
import reference
from sklearn.datasets import load_digits, load_iris, make_s_curve, make_swiss_roll

import dasksne
from dasksne import fit
from dasksne.job import HISTORY
from dasksne.objective import SNEObjective
from dasksne.optimise.schedule import RACE_SHARE
from dasksne.shards import StoredShard

ANNEALING = [20.0, 10.0]


@pytest.fixture
def data(rng):
    return rng.normal(size=(80, 5))


def sne(**options):
    return dasksne.SNE(**{"perplexity": 5.0, "annealing": ANNEALING, "max_iter": 12, **options})


def cost_of(X, Y, perplexity):
    P = reference.vectorised_conditional_probabilities(X, perplexity)
    return reference.vectorised_evaluation(P, Y)[0]


@pytest.mark.parametrize("optimizer", ["lbfgs", "momentum"])
def test_what_a_callback_sees(data, optimizer):
    events = []
    model = sne(optimizer=optimizer, callbacks=events.append).fit(data)
    assert [event.stage for event in events] == sorted(event.stage for event in events)
    assert {event.stage for event in events} == {0, 1, 2}
    assert {event.n_stages for event in events} == {3}
    for event in events:
        assert event.perplexity == [20.0, 10.0, 5.0][event.stage]
        assert event.max_iter == 12
        assert 1 <= event.iteration <= 12
        assert event.step >= 0.0
        assert event.embedding.shape == (80, 2)
    counts = [event.evaluations for event in events]
    assert counts == sorted(counts)
    assert counts[-1] >= len(events)
    seconds = [event.seconds for event in events]
    assert seconds == sorted(seconds)
    last = events[-1]
    assert last.cost == model.kl_divergence_
    np.testing.assert_array_equal(last.embedding, model.embedding_)


def test_costs_and_gradients_are_those_of_the_stage(data):
    events = []
    sne(callbacks=events.append).fit(data)
    for event in events[::5]:
        P = reference.vectorised_conditional_probabilities(data, event.perplexity)
        cost, gradient = reference.vectorised_evaluation(P, event.embedding)
        assert event.cost == pytest.approx(cost, rel=1e-9)
        assert event.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-6, abs=1e-6)


def test_history_is_what_the_events_were(data):
    events = []
    model = sne(callbacks=events.append).fit(data)
    assert tuple(model.history_) == HISTORY
    for name, column in model.history_.items():
        np.testing.assert_array_equal(column, [getattr(event, name) for event in events])
    assert model.n_iter_ == len(events)


def test_a_callback_cannot_change_the_map(data):
    def meddle(event):
        with pytest.raises(ValueError, match="read-only"):
            event.embedding[0] = 1.0

    sne(max_iter=2, callbacks=meddle).fit(data)


def test_several_callbacks(data):
    first, second = [], []
    sne(callbacks=[first.append, second.append]).fit(data)
    assert len(first) == len(second) > 0


@pytest.mark.parametrize("optimizer", ["lbfgs", "momentum"])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_callback_stops_the_run(data, stage, optimizer):
    """The cost is then that of the perplexity asked for, at the map where it stopped."""
    events = []

    def stop(event):
        events.append(event)
        return (event.stage, event.iteration) == (stage, 3)

    model = sne(callbacks=stop, optimizer=optimizer).fit(data)
    assert (events[-1].stage, events[-1].iteration) == (stage, 3)
    np.testing.assert_array_equal(model.embedding_, events[-1].embedding)
    assert model.kl_divergence_ == pytest.approx(cost_of(data, model.embedding_, 5.0), rel=1e-9)
    assert model.report_["stopped"] == "stopped by a callback"
    assert model.n_iter_ == len(events)


def test_anything_but_true_goes_on(data):
    assert sne(callbacks=lambda _: 1).fit(data).n_iter_ > 3


def test_no_iterations_evaluate_the_start(data, rng):
    Y = rng.normal(size=(80, 2))
    model = sne(init=Y, max_iter=0).fit(data)
    np.testing.assert_allclose(model.embedding_, Y - Y.mean(axis=0))
    assert model.kl_divergence_ == pytest.approx(cost_of(data, Y, 5.0), rel=1e-12)
    assert model.n_iter_ == 0
    assert all(column.shape == (0,) for column in model.history_.values())
    assert model.report_["stopped"] == "max_iter reached"


def test_annealing_goes_down_by_itself(data):
    model = dasksne.SNE(perplexity=5.0, max_iter=2).fit(data)
    passed = np.unique(model.history_["perplexity"])[::-1]
    assert passed[0] == pytest.approx(60.0)
    assert passed[-1] == pytest.approx(5.0)
    assert len(passed) == len(np.unique(model.history_["stage"])) > 2
    assert np.unique(sne(annealing=None).fit(data).history_["stage"]) == [0]


def test_sigma_has_one_stage(data):
    model = dasksne.SNE(sigma=2.0).fit(data)
    assert np.isnan(model.history_["perplexity"]).all()
    assert set(model.history_["stage"]) == {0}
    P = reference.conditional_probabilities(data, sigma=2.0)
    cost = reference.vectorised_evaluation(P, model.embedding_)[0]
    assert model.kl_divergence_ == pytest.approx(cost, rel=1e-10)


def test_evaluations_are_counted_over_all_stages(data):
    model = sne().fit(data)
    evaluations, stage = model.history_["evaluations"], model.history_["stage"]
    assert (np.diff(evaluations) >= 0).all()
    first_of_stage = np.flatnonzero(np.diff(stage)) + 1
    # A stage evaluates its start, then at least once an iteration.
    assert (np.diff(evaluations)[first_of_stage - 1] >= 2).all()


@pytest.mark.parametrize("width", [{"perplexity": 5.0}, {"sigma": 2.0, "perplexity": None}])
def test_what_the_map_explains(data, width):
    """Of the cost of a map with all points in one place, where Q is the same everywhere."""
    model = sne(**width, annealing=None).fit(data)
    P = reference.conditional_probabilities(data, **width)
    constant = reference.vectorised_evaluation(P, np.zeros((80, 2)))[0]
    if width["perplexity"]:
        assert constant == pytest.approx(80 * (np.log(79) - np.log(5.0)), rel=1e-9)
    share = 1.0 - model.kl_divergence_ / constant
    assert model.report_["share_explained"] == pytest.approx(share, rel=1e-9)
    assert model.report_["cost_per_point"] == model.kl_divergence_ / 80


def test_equal_points_leave_nothing_to_explain():
    with pytest.warns(UserWarning, match="cannot reach"):
        model = sne(annealing=None).fit(np.ones((20, 3)))
    assert np.isnan(model.report_["share_explained"])


def test_the_cost_falls(data):
    history = sne(max_iter=100).fit(data).history_
    last = history["cost"][history["stage"] == 2]
    assert (np.diff(last) <= 1e-8 * last[:-1]).all()


def test_the_known_minimum_of_ten_irises():
    """The answer of the smallvis package, C = 0.5177433200 from the raw principal scores."""
    X = load_iris().data[:10]
    X = X - X.mean(axis=0)
    scores = X @ np.linalg.svd(X, full_matrices=False)[2][:2].T
    model = dasksne.SNE(
        perplexity=5, init=scores, annealing=None, tol=1e-14, max_iter=2000, repulsion="direct"
    ).fit(X)
    assert model.kl_divergence_ == pytest.approx(0.517743320, abs=1e-8)


def test_the_digits_from_their_principal_components():
    model = dasksne.SNE(perplexity=30, annealing=None).fit(load_digits().data)
    assert model.kl_divergence_ <= 2602.0
    soon = model.history_["evaluations"] <= 25
    assert model.history_["cost"][soon][-1] <= 1.01 * model.kl_divergence_


def constant_columns(X):
    X[:, 1:] = 7.0


def duplicates(X):
    X[:40] = X[0]


def a_far_outlier(X):
    X[0] = 1e6


def equal_rows(X):
    X[:] = 1.0


@pytest.mark.filterwarnings("ignore:.*rows cannot reach the perplexity")
@pytest.mark.parametrize("spoil", [constant_columns, duplicates, a_far_outlier, equal_rows])
@pytest.mark.parametrize("init", ["pca", "random", "spectral", "best", "given"])
def test_any_start_on_any_data_stays_finite(data, init, spoil):
    spoil(data)
    start = 1e3 * data[:, :2] if init == "given" else init
    model = sne(init=start, annealing="auto").fit(data)
    assert np.isfinite(model.embedding_).all()
    assert np.isfinite([model.history_[name] for name in HISTORY]).all()
    assert math.isfinite(model.kl_divergence_)


STARTS = {
    "tiny": lambda y: 1e-8 * y,
    "huge": lambda y: 1e3 * y,
    "collinear": lambda y: y[:, :1] * np.arange(1.0, 1.0 + y.shape[1]),
    "all equal": lambda y: np.full_like(y, 7.0),
    "with an outlier": lambda y: np.vstack([np.full(y.shape[1], 1e3), y[1:]]),
}


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("optimizer", ["lbfgs", "momentum"])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_any_start_comes_to_a_map(data, rng, name, optimizer, d):
    """To which one depends on the last bits, where it begins far off."""
    start = STARTS[name](rng.normal(size=(len(data), d)))
    model = sne(n_components=d, init=start, optimizer=optimizer, annealing=None, max_iter=120)
    model.fit(data)
    assert np.isfinite(model.embedding_).all()
    assert np.isfinite([model.history_[column] for column in HISTORY]).all()
    assert model.report_["share_explained"] > 0.25


def within_reach(model, cost):
    """Whether the map is good enough, and came after few enough evaluations, starts included."""
    return model.kl_divergence_ <= cost and model.history_["evaluations"][-1] <= 400


@pytest.mark.parametrize("init", ["pca", "random"])
def test_some_digits_in_few_evaluations(init):
    model = dasksne.SNE(perplexity=30, init=init, random_state=1).fit(load_digits().data[:500])
    assert within_reach(model, 449.06)


@pytest.mark.parametrize("init", ["pca", "random", "best"])
def test_the_irises_in_few_evaluations(init):
    model = dasksne.SNE(perplexity=40, init=init, random_state=1).fit(load_iris().data)
    assert within_reach(model, 12.7466)


def test_data_that_crawl_keep_to_the_evaluations():
    """Along a curve the cost falls for as long as one likes."""
    t = np.linspace(0, 12, 100)
    model = dasksne.SNE(perplexity=4, init="best", random_state=0)
    model.fit(np.stack([np.cos(t), np.sin(t), t / 6], axis=1))
    assert model.report_["stopped"] == "max_iter reached"
    assert 350 < model.history_["evaluations"][-1] <= 400


@pytest.mark.slow
@pytest.mark.parametrize("start", [{}, *({"init": "random", "random_state": s} for s in (0, 7))])
def test_the_digits_in_few_evaluations(start):
    assert within_reach(dasksne.SNE(perplexity=30, **start).fit(load_digits().data), 2567.40)


@pytest.mark.slow
def test_a_swiss_roll_in_few_evaluations():
    """Annealing ends at 490; a spectral start wins."""
    X, _ = make_swiss_roll(1000, random_state=0)
    assert within_reach(dasksne.SNE(perplexity=20).fit(X), 447.1)


def test_two_points_find_their_distance():
    model = dasksne.SNE(sigma=1.0, init=np.array([[0.0, 0.0], [1.0, 0.0]])).fit([[0.0], [1.0]])
    assert model.kl_divergence_ == pytest.approx(0.0, abs=1e-12)


@pytest.mark.slow
def test_a_random_start_of_data_without_clusters_ends_where_components_do():
    X = np.random.default_rng(0).standard_normal((1000, 100))
    found = dasksne.SNE(perplexity=30, init="random", random_state=1).fit(X)
    assert found.kl_divergence_ <= 3142.97  # annealed alone it ends at 3144.21
    assert found.history_["evaluations"][-1] <= 400


def test_a_random_start_may_win_the_race():
    X, _ = make_s_curve(200, random_state=3)  # curved: annealing ends nearly twice as high
    events = []
    best, *others = (
        dasksne.SNE(perplexity=12, init=init, random_state=0, callbacks=callback)
        .fit(X)
        .kl_divergence_
        for init, callback in [("best", events.append), ("pca", None), ("spectral", None)]
    )
    assert best < 0.9 * min(others)
    race = [event for event in events if event.stage == events[-1].stage]
    assert (np.diff([event.cost for event in race]) <= 1e-8 * race[0].cost).all()
    spent = np.diff([event.evaluations for event in race])
    assert spent[0] >= 6  # the annealed map, a spectral start, four random ones
    assert spent[-1] <= 2


def test_the_iterations_of_all_that_race_count(data, monkeypatch):
    events, running = [], []
    go_on = fit.step_all

    def step_all(optimiser, states, evaluate):
        running.append(sum(state.stopped is None for state in states))
        return go_on(optimiser, states, evaluate)

    monkeypatch.setattr(fit, "step_all", step_all)
    dasksne.SNE(
        perplexity=5.0, max_iter=40, tol=0.0, init="best", random_state=0, callbacks=events.append
    ).fit(data)
    assert running[0] == 7  # the annealed map, its start, a spectral one and four random ones
    last = [event for event in events if event.stage == events[-1].stage]
    given = last[0].max_iter
    assert sum(running[:-1]) < RACE_SHARE * given
    assert sum(running) + len(last) - len(running) == given


def test_what_a_stage_leaves_over_goes_to_the_next(data):
    events = []
    sne(max_iter=30, callbacks=events.append).fit(data)
    done = [sum(event.stage == stage for event in events) for stage in range(3)]
    given = {event.stage: event.max_iter for event in events}
    assert done[0] < 30
    assert given == {0: 30, 1: 60 - done[0], 2: 90 - done[0] - done[1]}


def test_unreached_rows_are_counted(rng):
    X = rng.normal(size=(60, 3))
    X[:20] = 100.0
    with pytest.warns(UserWarning, match="20 of 60 rows cannot reach the perplexity 5"):
        model = sne(annealing=None).fit(X)
    assert model.report_["rows_below_perplexity"] == 20
    assert math.isfinite(model.kl_divergence_)


def test_s_in_the_store_does_not_go_with_a_worker(data):
    """Steps are given where it is, not the result of the task that wrote it."""
    whole = {"autospec": True, "side_effect": SNEObjective.evaluate_all}
    with mock.patch.object(SNEObjective, "evaluate_all", **whole) as evaluated:
        sne(p_storage="zarr", max_iter=2).fit(data)
    seen = [shard for call in evaluated.call_args_list for shard in call.args[0].shards]
    assert seen
    assert all(isinstance(shard, StoredShard) for shard in seen)


def test_a_run_that_is_not_kept_makes_nothing_of_its_state(data, monkeypatch):
    """Of a large map that is a copy of dozens of maps."""
    monkeypatch.setattr(fit, "state_to_dict", lambda _: pytest.fail("a state was copied"))
    assert sne(p_storage="zarr", checkpoint_seconds=0).fit(data).n_iter_ > 0

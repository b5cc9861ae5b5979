"""Runs that map some of their points first, at sizes of a test."""

import subprocess
import sys
import textwrap

import dask.array as da
import numpy as np
import pytest
import reference
from sklearn.datasets import load_digits

import dasksne
from dasksne import checkpoint, job, launch, levels, placed
from dasksne.job import HISTORY
from dasksne.landmarks import landmark_indices
from dasksne.optimise import schedule
from dasksne.run import Run

pytestmark = pytest.mark.slow

N = 300
SMALL = {
    (job, "LARGEST_ANNEALED"): 100,
    (levels, "LARGEST_ANNEALED"): 100,
    (levels, "LANDMARKS"): 40,
    (levels, "MIDDLE"): 3,
    (levels, "SETS"): 2,
    (schedule, "FIRST_LANDMARK_SHARE"): 0.2,
}
POINTS = [40, 40, 120, 300]
"""Of the stages: two of the sets, the middle set, all."""
FULL = len(POINTS) - 1
MEASURED = [name for name in HISTORY if name != "seconds"]


@pytest.fixture(autouse=True)
def _small_sizes(monkeypatch):
    for (module, name), value in SMALL.items():
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def data(rng):
    centres = 4.0 * rng.normal(size=(6, 5))
    return centres[rng.integers(0, 6, N)] + rng.normal(size=(N, 5))


def sne(**options):
    return dasksne.SNE(**{"perplexity": 20.0, "max_iter": 6, "random_state": 4, **options})


def assert_same(found, expected):
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)
    assert found.kl_divergence_ == expected.kl_divergence_
    assert found.n_iter_ == expected.n_iter_
    for name in MEASURED:
        np.testing.assert_array_equal(found.history_[name], expected.history_[name])


def cost_of(X, Y, perplexity):
    P = reference.vectorised_conditional_probabilities(X, perplexity)
    return reference.vectorised_evaluation(P, Y)[0]


def test_the_map_costs_less_than_one_without_landmarks(monkeypatch):
    X = load_digits().data
    for module in (job, levels):
        monkeypatch.setattr(module, "LARGEST_ANNEALED", 1000)
    for name, value in {"LANDMARKS": 300, "MIDDLE": 4, "SETS": 3}.items():
        monkeypatch.setattr(levels, name, value)
    found = dasksne.SNE(random_state=0).fit(X)
    direct = dasksne.SNE(random_state=0, annealing=None).fit(X)
    assert found.kl_divergence_ < 2570.0
    assert direct.kl_divergence_ > 2580.0
    assert np.count_nonzero(found.history_["points"] == len(X)) < 0.7 * direct.n_iter_


def test_history_says_how_many_points_each_iteration_moved(data):
    model = sne().fit(data)
    history = model.history_
    stages, first = np.unique(history["stage"], return_index=True)
    np.testing.assert_array_equal(stages, np.arange(len(POINTS)))
    np.testing.assert_array_equal(history["points"][first], POINTS)
    last = np.flatnonzero(np.diff(history["stage"], append=-1))
    np.testing.assert_allclose(history["perplexity"][last][[1, 2, 3]], [20 * 40 / N, 8.0, 20.0])
    assert (np.diff(history["evaluations"]) > 0).all()
    assert model.n_iter_ == len(history["points"])


def test_what_a_callback_sees(data):
    events = []
    sne(callbacks=events.append).fit(data)
    assert {event.n_stages for event in events} == {len(POINTS)}
    for event in events:
        assert event.points == len(event.embedding) == POINTS[event.stage]
    evaluations = [event.evaluations for event in events]
    assert evaluations == sorted(evaluations)


def test_costs_on_the_way_are_those_of_the_points_that_were_chosen(data):
    events = {}
    sne(callbacks=lambda event: events.update({event.stage: event})).fit(data)
    middle = landmark_indices(N, 120, launch_seed())
    sets = [middle[landmark_indices(120, 40, launch_seed() + k)] for k in (1, 2)]
    for stage, chosen in {1: sets, 2: [middle]}.items():
        event = events[stage]
        costs = [cost_of(data[some], event.embedding, event.perplexity) for some in chosen]
        # Of the sets the watcher sees the one that leads.
        assert np.min(np.abs(np.array(costs) / event.cost - 1.0)) < 1e-9


def test_the_middle_set_goes_on_from_its_best_start(data, monkeypatch):
    """Each set of landmarks, and no two are the same, gives it one."""
    events, raced = [], []
    go = placed.go_through_stages

    def go_through_stages(job, start, *, rivals):
        raced.extend([start, *rivals])
        return go(job, start, rivals=rivals)

    monkeypatch.setattr(placed, "go_through_stages", go_through_stages)
    sne(callbacks=events.append, max_iter=4).fit(data)
    assert len(raced) == 2
    assert not np.allclose(*raced)
    # Two maps go on side by side, those of the middle set for two thirds of their iterations.
    for stage, maps in enumerate([[2, 2, 2, 2], [2, 2, 2, 2], [2, 2, 2, 1, 1]]):
        found = [event for event in events if event.stage == stage]
        assert [event.iteration for event in found] == list(range(1, len(maps) + 1))
        assert (np.diff([event.evaluations for event in found]) >= maps[1:]).all()


def launch_seed():
    return sne()._settings().seed


@pytest.mark.parametrize("stage", range(len(POINTS)))
def test_a_callback_stops_the_run(data, stage):
    """All points are then placed, and the cost is that of the perplexity asked for."""
    events = []

    def stop(event):
        events.append(event)
        return event.stage == stage

    model = sne(callbacks=stop).fit(data)
    assert [event.stage for event in events].count(stage) == 1
    assert events[-1].stage == stage
    assert model.embedding_.shape == (N, 2)
    assert model.kl_divergence_ == pytest.approx(cost_of(data, model.embedding_, 20.0), rel=1e-9)
    assert model.report_["stopped"] == "stopped by a callback"


def test_landmarks_keep_their_places_where_a_run_is_stopped(data):
    events = []

    def stop(event):
        events.append(event)
        return event.stage == 1

    model = sne(callbacks=stop).fit(data)
    indices = landmark_indices(N, 120, launch_seed())
    spreads = []
    for k in (1, 2):
        among = indices[landmark_indices(120, 40, launch_seed() + k)]
        shift = model.embedding_[among] - events[-1].embedding
        spreads.append(np.max(np.abs(shift - shift[0])))
    assert min(spreads) < 1e-12


# Resume


def interrupt_at(stage, iteration):
    def interrupt(event):
        if (event.stage, event.iteration) == (stage, iteration):
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.parametrize("seconds", [0, 1000])
@pytest.mark.parametrize(("stage", "iteration"), [(0, 1), (1, 3), (2, 2), (3, 1), (3, 4)])
def test_a_run_that_was_interrupted_ends_the_same(data, tmp_path, stage, iteration, seconds):
    store = tmp_path / "run.zarr"
    expected = sne().fit(data)
    with pytest.raises(KeyboardInterrupt) as caught:
        sne(store=store, checkpoint_seconds=seconds, callbacks=interrupt_at(stage, iteration)).fit(
            data
        )
    assert f"go on with: dasksne resume {store}" in caught.value.__notes__[0]
    assert_same(dasksne.resume(store), expected)
    assert not Run.locate(store).has("landmarks")


@pytest.mark.parametrize("stage", [1, 3])
def test_a_process_that_dies_is_resumed(data, tmp_path, stage):
    store = tmp_path / "run.zarr"
    expected = sne().fit(data)
    np.save(tmp_path / "X.npy", data)
    sizes = "\n".join(
        f"        import {module.__name__}; {module.__name__}.{name} = {value}"
        for (module, name), value in SMALL.items()
    )
    code = f"""
        import os, numpy, dasksne
{sizes}
        def die(event):
            if (event.stage, event.iteration) == ({stage}, 3):
                os._exit(9)
        dasksne.SNE(perplexity=20.0, max_iter=6, random_state=4, store={str(store)!r},
            checkpoint_seconds=1000, callbacks=die).fit(numpy.load({str(tmp_path / "X.npy")!r}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == 9
    assert_same(dasksne.resume(store), expected)


def test_a_start_that_is_there_is_not_made_again(data, tmp_path, monkeypatch):
    store = tmp_path / "run.zarr"
    expected = sne().fit(data)
    with monkeypatch.context() as patch:
        patch.setattr(launch, "go_through_stages", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sne(store=store).fit(data)
    monkeypatch.setattr(launch, "placed_start", lambda *_: pytest.fail("made again"))
    assert_same(dasksne.resume(store), expected)


def test_a_start_that_is_damaged_is_made_again(data, tmp_path):
    store = tmp_path / "run.zarr"
    expected = sne().fit(data)
    with pytest.raises(KeyboardInterrupt):
        sne(store=store, callbacks=interrupt_at(FULL, 2)).fit(data)
    run = Run.locate(store)
    for name in run.group().attrs[checkpoint.POINTER]["names"]:
        run.delete(f"checkpoints/{name}")
    with pytest.warns(UserWarning, match="going on from the start"):
        found = dasksne.resume(store)
    assert_same(found, expected)


# Wherever the data and P are


@pytest.mark.parametrize("kind", ["lazy", "kept", "in a store", "without S"])
def test_the_same_bits_wherever_the_data_is(data, tmp_path, kind):
    expected = sne(p_storage="recompute" if kind == "without S" else "auto").fit(data)
    if kind == "lazy":
        found = sne().fit(da.from_array(data, chunks=(70, 5)))
    elif kind == "kept":
        found = sne(store=tmp_path / "run.zarr").fit(data)
    elif kind == "in a store":
        found = sne(store=tmp_path / "run.zarr").fit(da.from_array(data, chunks=(70, 5)))
    else:
        found = sne(p_storage="recompute", store=tmp_path / "run.zarr").fit(data)
    assert_same(found, expected)


@pytest.mark.parametrize("options", [{"init": "random"}, {"init": "best"}, {"tail_mass": 0.01}])
def test_other_runs_that_start_with_landmarks(data, options):
    model = sne(**options).fit(data)
    np.testing.assert_array_equal(np.unique(model.history_["points"]), [40, 120, 300])
    assert_same(sne(**options).fit(data), model)


@pytest.mark.parametrize("storage", ["memory", "recompute"])
def test_levels_keep_to_the_memory_planned(data, storage, monkeypatch):
    plans = []
    original = dasksne.placed.make_plan

    def make_plan(*arguments, **options):
        plans.append(original(*arguments, **options))
        return plans[-1]

    monkeypatch.setattr(dasksne.placed, "make_plan", make_plan)
    report = sne(p_storage=storage).fit(data).report_
    assert [plan.n_points for plan in plans] == [40, 40, 120]
    for plan in plans[:2]:  # each counts the sets that are mapped beside it
        assert plan.s_bytes == 2 * 8 * 40**2
    for plan in plans:
        assert plan.memory_bytes <= plan.memory_limit == report["memory_bytes"]
        assert plan.p_storage in {"memory", "recompute"}

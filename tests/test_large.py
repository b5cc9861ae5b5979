"""Runs of points that are too many to be annealed, at sizes of a test."""

from unittest import mock

import dask.array as da
import numpy as np
import pytest
import reference
from same import assert_same_run
from scipy.sparse import csr_array
from sklearn.datasets import load_digits

import dasksne
from dasksne import checkpoint, job, planning, starts
from dasksne.objective import SNEObjective
from dasksne.optimise.schedule import COARSE_TAIL_MASS
from dasksne.run import Run

pytestmark = pytest.mark.slow

N = 300
PERPLEXITY = 5.0


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch):
    monkeypatch.setattr(job, "LARGEST_ANNEALED", 100)


@pytest.fixture
def data(rng):
    centres = 4.0 * rng.normal(size=(6, 5))
    return centres[rng.integers(0, 6, N)] + rng.normal(size=(N, 5))


def sne(**options):
    return dasksne.SNE(**{"perplexity": PERPLEXITY, "max_iter": 9, "random_state": 4, **options})


def cost_of(X, Y):
    P = reference.vectorised_conditional_probabilities(X, PERPLEXITY)
    return reference.vectorised_evaluation(P, Y)[0]


def stages_of(model):
    """Return the evaluations of each stage."""
    stage, evaluations = model.history_["stage"], model.history_["evaluations"]
    assert (np.diff(evaluations) > 0).all()
    last = np.flatnonzero(np.diff(stage, append=-1))
    return np.diff(evaluations[last], prepend=0)


@pytest.mark.parametrize("kind", ["clusters", "sheet"])
def test_the_better_start_goes_on(rng, kind):
    """Components suit clusters, eigenvectors a sheet that is folded."""
    if kind == "clusters":
        X = load_digits().data[:600]
    else:
        length, width = rng.uniform(-1.0, 1.0, (2, 500))
        turn = 1.5 * np.pi * length
        X = np.column_stack([np.sin(turn), 2.0 * width, np.sign(turn) * (np.cos(turn) - 1.0)])
    options = {"max_iter": 60, "tail_mass": 1e-3, "perplexity": 12.0}
    found = sne(**options).fit(X)
    alone = [
        sne(init=init, annealing=None, **options).fit(X).kl_divergence_
        for init in ("pca", "spectral")
    ]
    better = ["clusters", "sheet"].index(kind)
    assert alone[better] < 0.99 * alone[1 - better]
    assert found.kl_divergence_ < 1.01 * alone[better]


def test_where_tails_are_dropped_two_starts_race(data):
    model = sne(tail_mass=1e-2).fit(data)
    assert len(stages_of(model)) == 1
    assert model.history_["evaluations"][0] == 4  # two of each start
    assert model.report_["coarse_share"] == 0.0
    alone = sne(tail_mass=1e-2, annealing=None).fit(data)
    assert alone.history_["evaluations"][0] == 2


def test_where_all_of_p_counts_a_coarse_stage_comes_before(data):
    events = []
    model = sne(callbacks=events.append).fit(data)
    assert len(stages_of(model)) == 2
    assert {event.n_stages for event in events} == {2}
    np.testing.assert_array_equal(model.history_["perplexity"], PERPLEXITY)
    assert 0.0 < model.report_["coarse_share"] < 1 / 8
    assert model.report_["tails"] is None
    assert model.kl_divergence_ == pytest.approx(cost_of(data, model.embedding_), rel=1e-9)
    coarse = [event for event in events if event.stage == 0]
    assert coarse[0].evaluations == 4
    cut = sne(tail_mass=COARSE_TAIL_MASS).fit(data)
    np.testing.assert_array_equal(
        [event.cost for event in coarse], cut.history_["cost"][: len(coarse)]
    )
    # It hands on its map, and the next stage begins with an evaluation of it.
    first = next(event for event in events if event.stage == 1)
    assert first.cost < cost_of(data, coarse[-1].embedding) < 1.1 * first.cost


@pytest.mark.parametrize(
    "options",
    [
        {"perplexity": 60.0},  # what is left without tails is no less
        {"annealing": None},
        {"init": "spectral"},
        {"optimizer": "momentum"},
        {"sample_weight": np.arange(N) % 3 + 1.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_other_runs_have_one_stage(data, options):
    weights = options.pop("sample_weight", None)
    model = sne(**options).fit(data, sample_weight=weights)
    assert len(stages_of(model)) == 1
    assert model.report_["coarse_share"] == 0.0


def test_s_of_a_coarse_stage_is_on_disk_where_memory_has_no_room(data):
    expected = sne(p_storage="recompute").fit(data)
    limit = expected.report_["memory_bytes"] - 1
    model = sne(p_storage="recompute", memory_limit=limit).fit(data)
    assert expected.report_["coarse_storage"] == "memory"
    assert model.report_["coarse_storage"] == "zarr"
    np.testing.assert_allclose(model.history_["cost"][:5], expected.history_["cost"][:5], rtol=1e-9)
    np.testing.assert_allclose(model.kl_divergence_, expected.kl_divergence_, rtol=1e-3)


def test_a_coarse_stage_that_fits_nowhere_is_left_out(data, monkeypatch):
    whole = sne(p_storage="recompute").plan(data)
    monkeypatch.setattr(planning, "_disk_found", lambda _: 0)
    tight = sne(p_storage="recompute", memory_limit=whole.memory_bytes - 1)
    assert tight.plan(data).coarse_share == 0.0
    assert tight.plan(data).memory_bytes < whole.memory_bytes
    assert len(stages_of(tight.fit(data))) == 1


@pytest.mark.parametrize("stage", [0, 1])
def test_a_callback_stops_the_run(data, stage):
    """The cost is that of all of P, wherever the run was stopped."""
    events = []

    def stop(event):
        events.append(event)
        return event.stage == stage

    model = sne(callbacks=stop).fit(data)
    assert [event.stage for event in events].count(stage) == 1
    np.testing.assert_array_equal(model.embedding_, events[-1].embedding)
    assert model.kl_divergence_ == pytest.approx(cost_of(data, model.embedding_), rel=1e-9)
    assert model.report_["stopped"] == "stopped by a callback"


@pytest.mark.parametrize("seconds", [0, 1000])
@pytest.mark.parametrize(("stage", "iteration"), [(0, 1), (0, 5), (1, 2)])
def test_a_run_that_was_interrupted_ends_the_same(data, tmp_path, stage, iteration, seconds):
    def interrupt(event):
        if (event.stage, event.iteration) == (stage, iteration):
            raise KeyboardInterrupt

    store = tmp_path / "run.zarr"
    expected = sne().fit(data)
    with pytest.raises(KeyboardInterrupt):
        sne(store=store, checkpoint_seconds=seconds, callbacks=interrupt).fit(data)
    assert_same_run(dasksne.resume(store), expected)


def test_a_run_without_a_sound_checkpoint_begins_anew(data, tmp_path):
    def interrupt(event):
        if event.stage == 1:
            raise KeyboardInterrupt

    store = tmp_path / "run.zarr"
    with pytest.raises(KeyboardInterrupt):
        sne(store=store, callbacks=interrupt).fit(data)
    run = Run.locate(store)
    for name in run.state[checkpoint.POINTER]:
        run.delete(f"checkpoints/{name}")
    with pytest.warns(UserWarning, match="going on from the start"):
        found = dasksne.resume(store)
    assert_same_run(found, sne().fit(data))


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
    assert_same_run(found, expected)


def test_distances_of_their_own(data):
    distances = np.sqrt(reference.vectorised_squared_distances(data))
    model = sne(metric="precomputed").fit(distances)
    assert len(stages_of(model)) == 2
    assert model.kl_divergence_ == pytest.approx(cost_of(data, model.embedding_), rel=1e-6)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_affinities_of_their_own(data, kind):
    """They keep what they have; a spectral start races where that is little."""
    P = reference.vectorised_conditional_probabilities(data, PERPLEXITY)
    if kind == "sparse":
        P[P < 1e-3] = 0.0
        P /= P.sum(axis=1, keepdims=True)
    model = sne(metric="affinities", perplexity=None, init="random")
    model.fit(P if kind == "dense" else csr_array(P))
    assert len(stages_of(model)) == 1
    alone = sne(metric="affinities", perplexity=None, init="random", annealing=None).fit(P)
    raced = model.history_["evaluations"][0] > alone.history_["evaluations"][0]
    assert raced == (kind == "sparse")
    assert model.kl_divergence_ == pytest.approx(
        reference.vectorised_evaluation(P, model.embedding_)[0], rel=1e-9
    )


@pytest.mark.parametrize(
    ("options", "racing"),
    [
        ({"init": "pca"}, 2),
        ({"init": "random"}, 2),
        ({"init": "best"}, 6),
        ({"init": "pca", "tail_mass": 1e-2}, 2),
        ({"init": "pca", "tail_mass": 1e-3, "p_storage": "recompute"}, 2),
        ({"init": "pca", "perplexity": None, "sigma": 0.3}, 2),
    ],
)
def test_so_many_starts_race_once(data, options, racing, monkeypatch):
    """A spectral one of the P that is kept, and of no other."""
    evaluated = []
    evaluate = SNEObjective.evaluate_all

    def evaluate_all(objective, maps):
        evaluated.append(len(maps))
        return evaluate(objective, maps)

    monkeypatch.setattr(SNEObjective, "evaluate_all", evaluate_all)
    monkeypatch.setattr(starts, "spectral_map", lambda *_: pytest.fail("made of another P"))
    model = sne(**options).fit(data)
    assert max(evaluated) == evaluated[0] == racing
    coarse = options.get("tail_mass") != 1e-2
    assert len(stages_of(model)) == 1 + coarse
    after = evaluated[np.flatnonzero(model.history_["stage"] == 0).size :]
    assert set(after) == {1}
    assert_same_run(sne(**options).fit(data), model)


def test_the_search_for_eigenvectors_has_an_end(data, monkeypatch):
    monkeypatch.setattr(starts, "RIVAL_PRODUCTS", 3)
    whole = {"autospec": True, "side_effect": SNEObjective.attraction}
    with mock.patch.object(SNEObjective, "attraction", **whole) as products:
        sne(tail_mass=1e-2).fit(data)
    assert [call.args[1].shape for call in products.call_args_list] == [(N, 2)] * 3

import numpy as np
import pytest
from optimise.conftest import PlainSNE, run

from dasksne.errors import InvalidInputError
from dasksne.optimise.lbfgs import LBFGS
from dasksne.optimise.schedule import (
    EARLY_ITERATIONS,
    EARLY_TOL,
    RATIO,
    Stage,
    spectral_perplexity,
    stages,
)

LIMITS = {"tol": 1e-6, "max_iter": 300}


@pytest.mark.parametrize(
    ("perplexity", "n_points"), [(30.0, 1797), (40.0, 150), (30.0, 100_000), (1.5, 4), (2.0, 6)]
)
def test_auto_falls_evenly_to_the_target(perplexity, n_points):
    path = [stage.perplexity for stage in stages("auto", perplexity, n_points, **LIMITS)]
    assert path[-1] == perplexity
    assert all(1.0 < value < n_points - 1 for value in path)
    ratios = np.divide(path[:-1], path[1:])
    assert np.all(ratios > 1.0)
    assert np.all(ratios <= RATIO * (1 + 1e-12))
    if ratios.size:
        np.testing.assert_allclose(ratios, ratios[0])


def test_auto_is_one_stage_where_the_target_is_high():
    assert stages("auto", 140.0, 150, **LIMITS) == (Stage(140.0, 1e-6, 300),)


def test_none_is_the_target_alone():
    assert stages(None, 30.0, 1000, **LIMITS) == (Stage(30.0, 1e-6, 300),)


@pytest.mark.parametrize("given", [[300.0, 100.0], [300.0, 100.0, 30.0], (300, 100)])
def test_a_list_ends_at_the_target(given):
    path = stages(given, 30.0, 1000, **LIMITS)
    assert [stage.perplexity for stage in path] == [300.0, 100.0, 30.0]
    assert path[-1].tol == 1e-6
    assert path[0].tol == EARLY_TOL


def test_an_early_stage_is_never_stricter_than_asked():
    path = stages("auto", 30.0, 1000, tol=0.01, max_iter=300)
    assert all(stage.tol == 0.01 for stage in path)


@pytest.mark.parametrize(("max_iter", "early"), [(0, 0), (7, 7), (5000, EARLY_ITERATIONS // 3)])
def test_only_the_last_stage_may_be_long(max_iter, early):
    path = stages("auto", 30.0, 1000, tol=1e-6, max_iter=max_iter)
    assert [stage.max_iter for stage in path] == [early, early, early, max_iter]


@pytest.mark.parametrize("value", [1.0, 0.5, -3.0, 99.0, 1e9, float("nan")])
def test_an_impossible_perplexity_is_named(value):
    with pytest.raises(InvalidInputError, match="above 1 and below N - 1 = 99"):
        stages([value], 30.0, 100, **LIMITS)


def test_an_unknown_word_is_named():
    with pytest.raises(InvalidInputError, match="'slow'"):
        stages("slow", 30.0, 100, **LIMITS)


def test_annealing_takes_different_starts_to_the_same_map(digits):
    path = stages("auto", 20.0, len(digits), **LIMITS)
    objectives = [PlainSNE(digits, stage.perplexity) for stage in path]
    annealed, direct = [], []
    for seed in range(4):
        y = np.random.default_rng(seed).standard_normal((len(digits), 2))
        direct.append(run(LBFGS(), objectives[-1], y)[-1].cost)
        for stage, objective in zip(path, objectives, strict=True):
            state = run(LBFGS(tol=stage.tol, degrees=objective.degrees), objective, y)[-1]
            y = state.y
        annealed.append(state.cost)
    assert np.ptp(annealed) < 1e-4 * annealed[0]
    assert max(annealed) <= (1 + 1e-4) * min(direct)
    assert np.ptp(direct) > 1e-3 * annealed[0]


@pytest.mark.parametrize("perplexity", [1.5, 4.0, 5.0, 7.0, 30.0])
def test_a_spectral_start_looks_at_fewer_neighbours_but_never_more_than_asked(perplexity):
    found = spectral_perplexity(perplexity)
    assert min(perplexity, 5.0) <= found <= perplexity

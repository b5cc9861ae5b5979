import json

import numpy as np
import pytest

from dasksne.errors import InvalidInputError
from dasksne.settings import Settings

GIVEN = {
    "n_components": 2,
    "perplexity": 30.0,
    "sigma": None,
    "metric": "euclidean",
    "pca": None,
    "scale": False,
    "init": "pca",
    "optimizer": "lbfgs",
    "annealing": "auto",
    "max_iter": 240,
    "tol": 1e-6,
    "dtype": "float64",
    "tail_mass": 0.0,
    "p_storage": "auto",
    "repulsion": "auto",
    "repulsion_rtol": 1e-8,
    "block_rows": "auto",
    "shards": "auto",
    "save": (),
    "checkpoint_seconds": 30,
    "seed": 0,
}


def settings(**changes):
    return Settings(**{**GIVEN, **changes})


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("metric", "'euclidean', 'cosine', 'precomputed'"),
        ("init", "'pca', 'random', 'spectral', 'best'"),
        ("optimizer", "'lbfgs', 'momentum'"),
        ("dtype", "'float64', 'float32'"),
        ("p_storage", "'auto', 'memory', 'zarr', 'recompute'"),
        ("repulsion", "'auto', 'direct', 'fourier'"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(name, known):
    with pytest.raises(InvalidInputError, match=f"{name}='nonsense' is not known.*{known}"):
        settings(**{name: "nonsense"})


def test_an_unknown_save_lists_the_known_ones():
    with pytest.raises(InvalidInputError, match=r"save='P' is not known.*'distances', 'Q'"):
        settings(save=("Q", "P"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_components", 0),
        ("n_components", 2.5),
        ("n_components", True),
        ("max_iter", -1),
        ("max_iter", "many"),
        ("tol", -1e-3),
        ("tol", np.inf),
        ("tol", np.nan),
        ("checkpoint_seconds", -1),
        ("tail_mass", -1e-3),
        ("tail_mass", 1.0),
        ("tail_mass", "little"),
        ("repulsion_rtol", 0.0),
        ("repulsion_rtol", 1.0),
        ("repulsion_rtol", 1e-15),
        ("block_rows", 0),
        ("block_rows", "few"),
        ("shards", 1.5),
        ("perplexity", 1.0),
        ("perplexity", np.nan),
        ("perplexity", "30"),
    ],
)
def test_a_number_out_of_range_is_named(name, value):
    with pytest.raises(InvalidInputError, match=name):
        settings(**{name: value})


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan, np.inf, "wide"])
def test_sigma_must_be_positive(sigma):
    with pytest.raises(InvalidInputError, match="sigma"):
        settings(perplexity=None, sigma=sigma)


@pytest.mark.parametrize(("perplexity", "sigma"), [(30.0, 1.0), (None, None)])
def test_one_of_perplexity_and_sigma(perplexity, sigma):
    with pytest.raises(InvalidInputError, match="give one of the two"):
        settings(perplexity=perplexity, sigma=sigma)


@pytest.mark.parametrize("annealing", [7, [50, "high"], [[1, 2]]])
def test_annealing_is_a_list_of_numbers(annealing):
    with pytest.raises(InvalidInputError, match="annealing"):
        settings(annealing=annealing)


def test_perplexity_must_leave_neighbours_out():
    settings(perplexity=8.9).require_fits(10, 3)
    with pytest.raises(InvalidInputError, match=r"perplexity=9 must be below N - 1 = 9.*lower it"):
        settings(perplexity=9).require_fits(10, 3)


@pytest.mark.parametrize("shape", [(10, 3), (9, 2), (10,)])
def test_init_has_the_shape_of_the_map(shape):
    with pytest.raises(InvalidInputError, match=r"init has shape .* \(N, n_components\) = \(10, 2"):
        settings(perplexity=5, init=np.zeros(shape)).require_fits(10, 3)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e101])
def test_squares_of_init_are_numbers(value):
    with pytest.raises(InvalidInputError, match=r"NaN, infinity or a value beyond 1e\+100"):
        settings(perplexity=5, init=np.full((10, 2), value)).require_fits(10, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"perplexity": None, "sigma": 2.5},
        {"annealing": None},
        {"annealing": [50.0, 40.0], "save": ("Q",), "block_rows": 64, "shards": 3},
        {
            "n_components": np.int64(3),
            "perplexity": np.float32(12.5),
            "max_iter": np.int32(7),
            "tol": np.float64(0.01),
            "block_rows": np.uint8(64),
            "annealing": np.array([40, 20]),
        },
    ],
)
def test_settings_survive_json(changes):
    given = settings(**changes)
    assert Settings.from_json(json.loads(json.dumps(given.to_json())), {}) == given


@pytest.mark.parametrize(
    "changes",
    [
        {"init": np.arange(20.0).reshape(10, 2)},
        {"sigma": np.arange(1.0, 11.0), "perplexity": None},
    ],
)
def test_arrays_are_kept_beside_the_settings(changes):
    given = settings(**changes)
    (name,) = given.arrays
    values = json.loads(json.dumps(given.to_json()))
    assert values[name] == "array"
    assert getattr(Settings.from_json(values, given.arrays), name) is changes[name]


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        (np.ones((5, 2)), r"sigma has shape \(5, 2\); it must be a number, or an array of shape"),
        (np.array([1.0, 0.0, 2.0]), r"above 0 for each point: sigma\[1\] = 0"),
        (np.array([1.0, 3.0, np.nan]), r"sigma\[2\] = nan"),
        (np.array([np.inf, 1.0]), r"sigma\[0\] = inf"),
        (np.array([]), "sigma has 0 values for 10 points"),
        (np.ones(9), "sigma has 9 values for 10 points; there must be one for each"),
    ],
)
def test_widths_of_points_that_cannot_be_taken(sigma, message):
    with pytest.raises(InvalidInputError, match=message):
        settings(perplexity=None, sigma=sigma).require_fits(10, 3)


def test_a_perplexity_and_widths_of_points_are_too_much():
    with pytest.raises(InvalidInputError, match="sigma=an array: give one of the two"):
        settings(sigma=np.ones(10))

"""A run that is there is refused by naming what is not as it was: each option, and the data."""

from dataclasses import fields

import dask.array as da
import numpy as np
import pytest

import dasksne
from dasksne.difference import difference
from dasksne.errors import StoreError
from dasksne.run import Run
from dasksne.settings import Settings

THERE = dasksne.SNE(random_state=0)._settings()
OTHER = {
    "n_components": 3,
    "perplexity": 20.0,
    "metric": "cosine",
    "pca": 5,
    "scale": True,
    "init": "random",
    "optimizer": "momentum",
    "annealing": [50.0],
    "max_iter": 7,
    "tol": 1e-3,
    "dtype": "float32",
    "tail_mass": 1e-3,
    "p_storage": "zarr",
    "repulsion": "direct",
    "repulsion_rtol": 1e-6,
    "block_rows": 64,
    "shards": 3,
    "save": ("Q",),
    "checkpoint_seconds": 5,
}
FIRST = {"perplexity": 5.0, "annealing": None, "max_iter": 1, "random_state": 0}


@pytest.fixture
def run(tmp_path):
    run = Run.locate(tmp_path / "run.zarr")
    run.create(overwrite=False)
    run.update(parameters=THERE.to_json(), given="data")
    return run


def asked(**options):
    return dasksne.SNE(**{"random_state": 0, **options})._settings()


@pytest.mark.parametrize("name", OTHER)
def test_an_option_is_named(run, name):
    said = difference(run, asked(**{name: OTHER[name]}), "data")
    there, here = getattr(THERE, name), OTHER[name]
    there, here = (list(value) if name == "save" else value for value in (there, here))
    assert said == f", with {name}={there!r} where {here!r} is asked for"


def test_every_option_is_tried():
    elsewhere = {"sigma", "seed", "sample_weight"}
    assert {*OTHER, *elsewhere} == {field.name for field in fields(Settings)}


def test_more_than_one_are_named(run):
    assert difference(run, asked(sigma=2.0), "other") == (
        ", with perplexity=30.0 where None is asked for, sigma=None where 2.0 is asked for, "
        "other data"
    )
    assert difference(run, asked(random_state=1), "data") == ", with another random_state"
    assert difference(run, asked(), "data") == ""


def test_nothing_is_said_of_a_run_that_has_none(tmp_path, run):
    assert difference(Run.locate(tmp_path / "nothing"), asked(), "data") == ""
    run.update(parameters=THERE.to_json(), given=None)  # of prepared data that was lazy
    assert difference(run, asked(), "data") == ""


@pytest.mark.parametrize(
    ("first", "second", "data", "said"),
    [
        ({}, {}, "same", "holds a run already; go on"),
        ({}, {}, "other", "already, with other data; go on"),
        ({}, {}, "lazy", "already, with data that is not compared, as X is lazy; go on"),
        ({"scale": True}, {"scale": True}, "same", "holds a run already; go on"),
        ({"scale": True}, {"scale": True}, "other", "already, with other data; go on"),
        ({"init": np.zeros((40, 2))}, {"init": np.zeros((40, 2))}, "same", "already; go on"),
        ({"init": np.zeros((40, 2))}, {"init": np.ones((40, 2))}, "same", "another array init; go"),
    ],
)
def test_a_fit_is_refused(rng, tmp_path, first, second, data, said):
    X = rng.normal(size=(40, 3))
    others = {"same": X, "other": X + 1e-12, "lazy": da.from_array(X)}
    store = tmp_path / "run.zarr"
    dasksne.SNE(**FIRST, **first, store=store).fit(X)
    with pytest.raises(StoreError, match=said):
        dasksne.SNE(**FIRST, **second, store=store).fit(others[data])


def test_a_run_that_is_replaced_is_not_looked_at(rng, tmp_path, monkeypatch):
    store = tmp_path / "run.zarr"
    X = rng.normal(size=(40, 3))
    dasksne.SNE(**FIRST, store=store).fit(X)
    monkeypatch.setattr(dasksne.launch, "difference", lambda *_: pytest.fail("asked for"))
    dasksne.SNE(**FIRST, store=store, overwrite=True).fit(X)

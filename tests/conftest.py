"""What all tests share: how hypothesis runs, a fixed source of data, a watch on lazy code."""

import os

import dask
import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def nothing_computes():
    """Fail whatever asks Dask for a value while the test runs."""

    def refuse(*_args, **_options):
        pytest.fail("a value was computed")

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture(autouse=True)
def scheduler_is_put_back():
    """Name the test that leaves another scheduler in Dask's configuration, not those after it."""
    before = dask.config.get("scheduler", None)
    yield
    after = dask.config.get("scheduler", None)
    dask.config.set(scheduler=before)
    assert after == before

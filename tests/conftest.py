"""What all tests share: how hypothesis runs, fixed data, a bucket, a watch on lazy code."""

import os
import sys

import dask
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import settings

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def bucket(monkeypatch):
    """An object store of this process: what a URL needs and a folder does not have."""

    class Bucket(MemoryFileSystem):
        protocol = "s3"
        store = {}  # noqa: RUF012 - as the class above
        pseudo_dirs = [""]  # noqa: RUF012

        @classmethod
        def _strip_protocol(cls, path):
            return MemoryFileSystem._strip_protocol(path.removeprefix("s3:/"))

    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "s3", Bucket)
    return Bucket


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

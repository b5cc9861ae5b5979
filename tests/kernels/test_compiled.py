"""A kernel gives the same bits in the process that compiles it and in those that load it."""

import subprocess
import sys

import pytest

CODE = """
import hashlib, numpy as np
from dasksne.kernels.attraction import Places, sparse_attraction
from dasksne.kernels.calibration import calibrate
from dasksne.kernels.distances import squared_distances
from dasksne.kernels.fourier import repulsion_fourier

rng = np.random.default_rng(0)
x, y, d = rng.normal(size=(90, 6)), rng.normal(size=(90, 2)), np.empty((90, 90))
squared_distances(x, x, d)
force = np.zeros((90, 3))
indices, indptr = np.tile(np.arange(90, dtype=np.int32), 90), 90 * np.arange(91)
sparse_attraction(d.ravel(), indices, indptr, slice(0, 90), Places(x[:, :3]), force)
values = [d, force, *calibrate(d, 0, 8.0), *repulsion_fourier(y)]
print(*(hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest() for value in values))
"""


@pytest.mark.cluster  # it compiles for half a minute
def test_bits_do_not_depend_on_who_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    compiled, loaded = (
        subprocess.check_output([sys.executable, "-c", CODE], text=True) for _ in range(2)
    )
    assert loaded == compiled

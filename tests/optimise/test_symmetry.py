import numpy as np
import pytest
from optimise.conftest import run

from dasksne.optimise.lbfgs import LBFGS
from dasksne.optimise.symmetry import break_symmetry

SADDLES = {
    "all equal": lambda y: np.full_like(y, 3.0),
    "on an axis": lambda y: y * [1.0, 0.0],
    "on a slanted line": lambda y: np.outer(y[:, 0], [1.0, 2.0]) + 5.0,
}


@pytest.mark.parametrize("name", SADDLES)
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e3])
def test_a_way_out_of_every_saddle(sne, random_map, name, scale):
    saddle = scale * SADDLES[name](random_map)
    y = break_symmetry(saddle)
    np.testing.assert_array_equal(y, break_symmetry(saddle))
    assert np.max(np.abs(y - saddle)) < 1e-3 * max(np.ptp(saddle), 1.0)
    end = run(LBFGS(), sne, y)[-1]
    assert spans_the_plane(end.y)
    assert end.cost < 0.8 * sne(np.zeros_like(y)).cost


@pytest.mark.parametrize("name", ["all equal", "on an axis"])
def test_without_it_there_is_none(sne, random_map, name):
    assert not spans_the_plane(run(LBFGS(), sne, SADDLES[name](random_map))[-1].y)


def spans_the_plane(y):
    return np.linalg.svd(y - y.mean(axis=0), compute_uv=False)[-1] > 1.0


def test_an_ordinary_map_is_left_alone(random_map):
    assert break_symmetry(random_map) is random_map
    thin = random_map * [1.0, 1e-5]
    assert break_symmetry(thin) is thin


def test_a_map_of_one_column_has_nothing_to_span(random_map):
    y = random_map[:, :1]
    assert break_symmetry(y) is y

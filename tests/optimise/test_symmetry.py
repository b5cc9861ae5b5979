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
    end, flat = run(LBFGS(), sne, y)[-1], run(LBFGS(), sne, saddle)[-1]
    assert end.cost < 0.98 * flat.cost
    assert np.linalg.svd(end.y - end.y.mean(axis=0), compute_uv=False)[-1] > 1.0


def test_an_ordinary_map_is_left_alone(random_map):
    assert break_symmetry(random_map) is random_map
    thin = random_map * [1.0, 1e-5]
    assert break_symmetry(thin) is thin


def test_a_map_of_one_column_has_nothing_to_span(random_map):
    y = random_map[:, :1]
    assert break_symmetry(y) is y

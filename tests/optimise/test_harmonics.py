import numpy as np
import pytest

from dasksne.optimise.harmonics import SAMPLE, _unexplained, independent_columns


@pytest.fixture
def strip():
    """The eigenfunctions of a strip four times as long as wide: cosines of both sides."""
    generator = np.random.default_rng(0)
    length, width = generator.uniform(0.0, np.pi, (2, 800))
    return np.stack([*(np.cos(k * length) for k in (1, 2, 3)), np.cos(width)], axis=1)


def test_the_width_of_a_strip_is_found_behind_its_harmonics(strip):
    assert independent_columns(strip, 2) == [0, 3]


def test_a_mixture_with_the_width_counts_as_a_direction(strip):
    mixed = np.column_stack([strip[:, :2], 0.8 * strip[:, 2] + 0.6 * strip[:, 3]])
    assert independent_columns(mixed, 2) == [0, 2]


def test_columns_come_in_their_order(strip):
    assert independent_columns(strip[:, [0, 3, 1]], 3) == [0, 1, 2]


def test_noise_alone_keeps_the_smoothest():
    columns = np.zeros((50, 4))
    assert independent_columns(columns, 2) == [0, 1]


def test_many_points_are_sampled_the_same_way_each_time(strip):
    many = np.tile(strip, (3, 1))
    assert len(many) > SAMPLE
    assert independent_columns(many, 2) == independent_columns(many, 2) == [0, 3]


def test_neither_scale_nor_sign_matters(strip):
    assert independent_columns(strip * [1e-3, -1e3, 1.0, -1e-6], 2) == [0, 3]


def test_a_point_does_not_explain_itself():
    noise = np.random.default_rng(0).standard_normal((40, 4))
    assert _unexplained(noise[:, :3], noise[:, 3]) > 1.0

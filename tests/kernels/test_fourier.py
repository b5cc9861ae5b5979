"""The Fourier repulsion against all pairs in plain NumPy, row by row."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dasksne.kernels.fourier import (
    first_pass,
    repulsion_by,
    repulsion_fourier,
    second_pass,
    spread,
)
from dasksne.kernels.isolated import IsolatedRows, isolated_rows
from dasksne.kernels.tiling import (
    cheapest_tiling,
    choose_tiling,
    most_grid_bytes,
    tiles_of_side,
)

RTOL = 1e-8
SIZES = {1: 600, 2: 300, 3: 120}


def reference(Y):
    """R, log Z and the scale of each row's error, by log-sum-exp over all pairs in float64."""
    difference = Y[:, None] - Y[None]
    squared = (difference**2).sum(axis=-1)
    distance = np.sqrt(squared)
    np.fill_diagonal(squared, np.inf)
    nearest = squared.min(axis=1, keepdims=True)
    q = np.exp(nearest - squared)
    log_z = np.log(q.sum(axis=1)) - nearest[:, 0]
    q /= q.sum(axis=1, keepdims=True)
    s = q + q.T
    return np.einsum("ij,ijk->ik", s, difference), log_z, 1.0 + (s * distance).sum(axis=1)


def by_phases(Y, n_blocks=1, rtol=RTOL):
    """The Fourier form as a map over row blocks, also where all pairs would be cheaper."""
    y = np.ascontiguousarray(Y.T)
    tiling = cheapest_tiling(y, rtol)
    bounds = np.linspace(0, len(Y), n_blocks + 1).astype(int)
    blocks = [slice(start, stop) for start, stop in itertools.pairwise(bounds.tolist())]
    ones = sum(spread(tiling, y, rows, np.ones(rows.stop - rows.start)) for rows in blocks)
    firsts = [first_pass(tiling, ones, y, rows, rtol) for rows in blocks]
    weights = sum(spread(tiling, y, first.rows, first.weights) for first in firsts)
    isolated = IsolatedRows(*map(np.concatenate, zip(*(f.isolated for f in firsts), strict=True)))
    R = np.concatenate([second_pass(tiling, weights, y, first, isolated) for first in firsts])
    return R, np.concatenate([first.log_z for first in firsts]), isolated


def assert_close(Y, R, log_z, rtol=RTOL):
    expected_R, expected_log_z, scale = reference(Y)
    assert (np.linalg.norm(R - expected_R, axis=1) <= rtol * scale).all()
    # At 10^6 the reference's own log Z is a float64 of 10^12, with a last place of 10^-4.
    last_place = np.spacing(np.abs(expected_log_z))
    assert (np.abs(log_z - expected_log_z) <= rtol + 2.0 * last_place).all()


def moved(Y, rows, to):
    Y = Y.copy()
    Y[rows] = to
    return Y


def ring(n_points, d):
    angle = np.linspace(0.0, 2.0 * np.pi, n_points, endpoint=False)
    Y = np.zeros((n_points, d))
    Y[:, 0] = np.cos(angle)
    Y[:, 1:2] = np.sin(angle)[:, None]
    return 10.0 * n_points * Y


def axis(Y):
    return np.eye(Y.shape[1])[0]


def diagonal(Y):
    return np.ones(Y.shape[1]) / np.sqrt(Y.shape[1])


def two_clusters(Y, shift):
    return Y + shift * (np.arange(len(Y)) % 2)[:, None]


AWKWARD = {
    "scaled 0.01": lambda Y: 0.01 * Y,
    "scaled 1": lambda Y: Y,
    "scaled 4": lambda Y: 4.0 * Y,
    "scaled 8": lambda Y: 8.0 * Y,
    "scaled 100": lambda Y: 100.0 * Y,
    "outlier at 50": lambda Y: moved(Y, 3, 50.0 * axis(Y)),
    "outlier at 1e6": lambda Y: moved(Y, 3, 1e6 * axis(Y)),
    "two outliers": lambda Y: moved(Y, [3, 7], [50.0 + 0.0 * axis(Y), 50.0 + 6.0 * axis(Y)]),
    "clusters 1e3 along an axis": lambda Y: two_clusters(Y, 1e3 * axis(Y)),
    "clusters 1e3 along the diagonal": lambda Y: two_clusters(Y, 1e3 * diagonal(Y)),
    "clusters 1e4 along an axis": lambda Y: two_clusters(Y, 1e4 * axis(Y)),
    "clusters 1e4 along the diagonal": lambda Y: two_clusters(Y, 1e4 * diagonal(Y)),
    "equal": lambda Y: np.full(Y.shape, 0.3),
    "two points": lambda Y: Y[:2],
    "three points": lambda Y: Y[:3],
    "student": lambda Y: np.random.default_rng(7).standard_t(1.5, size=Y.shape),
    "line": lambda Y: np.linspace(0.0, 3000.0, len(Y))[:, None] * axis(Y),
    "ring": lambda Y: ring(*Y.shape),
}


def awkward_map(name, d):
    ordinary = np.random.default_rng(7).normal(size=(SIZES[d], d)) * (3.0 if d < 3 else 1.0)
    return AWKWARD[name](ordinary)


TOO_SLOW_IN_3D = {
    *("scaled 4", "scaled 8", "scaled 100", "student", "line", "ring", "two outliers"),
    *(name for name in AWKWARD if "diagonal" in name),
}
"""Grids of seconds or more where Fourier is forced; by themselves these maps go by all pairs."""


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_maps_agree_with_all_pairs(name, d):
    Y = awkward_map(name, d)
    assert_close(Y, *repulsion_fourier(Y))


@pytest.mark.parametrize(
    ("name", "d"),
    [(name, d) for name in AWKWARD for d in (1, 2, 3) if d < 3 or name not in TOO_SLOW_IN_3D],
)
def test_awkward_maps_agree_where_fourier_is_forced(name, d, monkeypatch):
    monkeypatch.setattr("dasksne.kernels.tiling.FEWEST_GRID_BYTES", (2**30,) * 3)
    Y = awkward_map(name, d)
    R, log_z, _ = by_phases(Y)
    assert_close(Y, R, log_z)


@pytest.mark.parametrize(
    ("n_points", "d", "extent", "by_fourier"),
    [(3000, 1, 800, True), (3000, 2, 18, True), (3000, 2, 90, False), (2000, 3, 18, False)],
)
def test_the_cheaper_way_is_taken(n_points, d, extent, by_fourier):
    Y = np.random.default_rng(1).uniform(0.0, extent, size=(n_points, d))
    assert (choose_tiling(np.ascontiguousarray(Y.T), RTOL) is not None) == by_fourier
    R, log_z = repulsion_fourier(Y)
    assert_close(Y, R, log_z)


@pytest.mark.parametrize(("rtol", "by_fourier"), [(1e-8, True), (1e-12, False)])
def test_a_tolerance_that_isolates_most_rows_goes_over_all_pairs(rtol, by_fourier):
    Y = 5.0 * np.random.default_rng(1).normal(size=(3000, 2))
    y = np.ascontiguousarray(Y.T)
    assert (repulsion_by(choose_tiling(y, rtol), y, rtol) is not None) == by_fourier
    R, log_z = repulsion_fourier(Y, rtol)
    assert_close(Y, R, log_z, max(rtol, 1e-11))  # of the reference, as well


def test_several_tiles_agree_with_all_pairs():
    """Rows near an edge or a corner are reached by several tiles, rows of one tile by others."""
    Y = np.random.default_rng(2).uniform(0.0, 1.0, size=(1500, 2)) * [300.0, 20.0]
    Y[:4] = [[150.0, 10.0], [150.0, 10.1], [149.9, 10.0], [150.1, 9.9]]
    assert cheapest_tiling(np.ascontiguousarray(Y.T), RTOL).occupied.size > 1
    R, log_z, _ = by_phases(Y)
    assert_close(Y, R, log_z)


@pytest.mark.parametrize("rtol", [1e-5, 1e-8, 1e-10, 1e-12])
def test_a_crowd_does_not_spoil_the_rows_beside_it(rtol):
    """Normalisers from 1e-30 to 0.1 beside a crowd: the crowd's rounding must not decide them."""
    crowd = np.random.default_rng(3).normal(size=(1500, 2)) * 0.05
    angle = 2.4 * np.arange(9)
    for shift in np.linspace(0.0, 0.6, 6):
        radius = np.linspace(1.6, 8.0, 9) + shift
        beside = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        Y = np.concatenate([crowd, beside])
        R, log_z, isolated = by_phases(Y, rtol=rtol)
        assert_close(Y, R, log_z, rtol)
        assert 0 < isolated.row.size <= 9


def test_a_looser_tolerance_isolates_fewer_rows():
    Y = awkward_map("student", 2)
    sizes = [by_phases(Y, rtol=rtol)[2].row.size for rtol in (1e-5, 1e-8, 1e-11)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("name", ["scaled 1", "scaled 4", "outlier at 50", "student"])
def test_a_looser_tolerance_takes_smaller_grids_and_is_met(name):
    Y = awkward_map(name, 2)
    y = np.ascontiguousarray(Y.T)
    grids = [cheapest_tiling(y, rtol).grid_bytes for rtol in (1e-2, 1e-5, 1e-8)]
    assert grids[0] < grids[1] < grids[2]
    for rtol in (1e-2, 1e-5):
        R, log_z, _ = by_phases(Y, rtol=rtol)
        assert_close(Y, R, log_z, rtol)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize(("far", "step"), [(1e6, 2.0**-21), (1e8, 2.0**-27)])
def test_an_outlier_divides_its_row_between_equally_near_points(far, step, d):
    """Its squared distances round to 1e-4 or more; their differences decide q and are exact."""
    Y = np.zeros((7, d))
    Y[:, 0] = [far, -far, -0.5, 0.0, 0.5 - 2.0 * step, 0.5 - step, 0.5]
    q = np.exp([-4.0 * far * step, -2.0 * far * step, 0.0])
    q /= q.sum()
    found, _, push = isolated_rows(np.ascontiguousarray(Y.T), np.array([0]))
    assert found.nearest.tolist() == [6]
    np.testing.assert_allclose(1.0 / found.total, q[-1:], rtol=1e-6)
    np.testing.assert_allclose(push[0, 0], q @ (far - Y[4:, 0]), rtol=1e-14)
    R, _, isolated = by_phases(Y)
    assert isolated.row.tolist() == [0, 1]
    rest, _ = repulsion_fourier(Y[2:])
    np.testing.assert_allclose(rest[2:, 0] - R[4:, 0], q * far, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e9, 1e150])
def test_isolated_rows_survive_any_finite_map(scale):
    """A centre whose neighbours on a circle differ in distance by rounding alone."""
    angle = np.linspace(0.0, 2.0 * np.pi, 1000)
    y = scale * np.stack([np.cos(angle), np.sin(angle)])
    y[:, 0] = 0.0
    found, log_z, push = isolated_rows(y, np.arange(3))
    assert (found.total >= 1.0).all()
    assert (found.total < 1000.0).all()
    assert np.isfinite(log_z).all()
    assert np.isfinite(push).all()


def test_a_row_is_isolated_by_the_points_that_reach_it():
    """A crowd far away adds nothing to the error of a sum, so it isolates no row."""
    rng = np.random.default_rng(9)
    few = rng.uniform(0.0, 12.0, size=(60, 2))
    crowd = rng.normal(size=(6000, 2)) + 5000.0
    _, _, alone = by_phases(few)
    _, _, both = by_phases(np.concatenate([few, crowd]))
    assert both.row.tolist() == alone.row.tolist()
    smallest = np.exp(np.delete(reference(few)[1], alone.row).min())
    assert smallest < 3e-14 * 6060 / RTOL


@pytest.mark.parametrize(
    "name", ["scaled 1", "scaled 8", "clusters 1e3 along the diagonal", "student"]
)
def test_row_blocks_add_up(name):
    Y = awkward_map(name, 2)
    R, log_z, isolated = by_phases(Y)
    for n_blocks in (2, 7):
        R_blocks, log_z_blocks, isolated_blocks = by_phases(Y, n_blocks)
        np.testing.assert_allclose(R_blocks, R, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(log_z_blocks, log_z, rtol=1e-9, atol=1e-10)
        assert isolated_blocks.row.tolist() == isolated.row.tolist()


def test_one_block_has_the_bits_of_the_whole_and_every_run_the_same():
    Y = np.random.default_rng(4).normal(size=(6000, 2)) * 4.0
    Y[5] = 40.0
    assert choose_tiling(np.ascontiguousarray(Y.T), RTOL) is not None
    R, log_z, isolated = by_phases(Y)
    assert isolated.row.size > 0
    with ThreadPoolExecutor(3) as threads:
        for R_again, log_z_again in threads.map(repulsion_fourier, [Y] * 4):
            assert R_again.tobytes() == R.tobytes()
            assert log_z_again.tobytes() == log_z.tobytes()


def test_inputs_are_not_changed_and_need_no_layout():
    Y = awkward_map("student", 2)
    kept = Y.copy()
    R, log_z = repulsion_fourier(Y)
    assert (kept == Y).all()
    for other in (np.asfortranarray(Y), np.repeat(Y, 2, axis=0)[::2]):
        R_other, log_z_other = repulsion_fourier(other)
        assert R_other.tobytes() == R.tobytes()
        assert log_z_other.tobytes() == log_z.tobytes()


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_gives_nan(d, bad):
    Y = np.random.default_rng(5).normal(size=(50, d))
    Y[7, -1] = bad
    R, log_z = repulsion_fourier(Y)
    assert R.shape == Y.shape
    assert log_z.shape == (50,)
    assert np.isnan(R).all()
    assert np.isnan(log_z).all()


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("extent", [1e9, 1e18, 1e20, 1e150])
def test_a_map_that_has_grown_without_bound_goes_by_all_pairs(d, extent):
    Y = np.random.default_rng(6).normal(size=(1000, d)) * extent
    y = np.ascontiguousarray(Y.T)
    assert choose_tiling(y, RTOL) is None
    R, log_z = repulsion_fourier(Y)
    assert np.isfinite(R).all()
    assert np.isfinite(log_z).all()


def test_a_map_whose_extent_overflows_goes_by_all_pairs():
    assert choose_tiling(np.array([[-1.5e308, 1.5e308, 0.0], [0.0, 0.0, 1e308]]), RTOL) is None


@pytest.mark.parametrize("d", [1, 2, 3])
def test_grids_stay_within_their_bound(d):
    rng = np.random.default_rng(8)
    for extent in (1.0, 30.0, 100.0, 1000.0, 1e5, 1e7):
        tiling = cheapest_tiling(rng.uniform(0.0, extent, size=(d, 20000)), RTOL)
        if tiling is not None:
            assert tiling.grid_bytes <= most_grid_bytes(20000, d)
            assert 32 * tiling.occupied.size * np.prod(tiling.modes) < tiling.grid_bytes
    if d > 1:
        assert tiling is None
    assert most_grid_bytes(10**8, d) == 10**8 * (64, 512, 4096)[d - 1]


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize(
    "name", ["scaled 8", "scaled 100", "clusters 1e3 along the diagonal", "outlier at 1e6"]
)
def test_tiles_part_the_points_and_reach_all_that_matters(name, d):
    Y = awkward_map(name, d)
    y = np.ascontiguousarray(Y.T)
    tiling = tiles_of_side(y, 16.0, 1e-14)
    sources, targets = dict(tiling.sources(y)), dict(tiling.targets(y))
    counts = {tile: points.size for tile, points in sources.items()}
    assert counts == dict(enumerate(tiling.points.tolist()))
    assert sorted(np.concatenate(list(sources.values()))) == list(range(len(Y)))
    for tile, points in sources.items():
        apart = np.linalg.norm(Y[points, None] - Y[None], axis=-1).min(axis=0)
        assert set(np.flatnonzero(apart <= tiling.reach)) <= set(targets[tile].tolist())
        assert np.unique(targets[tile]).size == targets[tile].size
        angles = tiling.angles(tile, y[:, targets[tile]])
        assert np.abs(angles).max() <= np.pi * (1.0 + 1e-9)

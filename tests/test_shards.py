"""P and S, from data to the rows that a task holds."""

import math
from dataclasses import replace

import numpy as np
import pytest
import reference
from dask.sizeof import sizeof
from engine import NOTHING, calibrate, plan_of, source_of
from hypothesis import given
from hypothesis import strategies as st

from dasksne.affinities import Outputs, Width, start_shards
from dasksne.errors import StoreError
from dasksne.executor.threads import ThreadExecutor
from dasksne.finished import create_calibration, kept_calibration
from dasksne.run import Run
from dasksne.shards import ComputedShard

STORAGES = ("memory", "zarr", "recompute")


def joint(X, width, run=None, metric="euclidean", **layout):
    """Return S, put together from all blocks of all shards."""
    plan, source = plan_of(X, **layout), source_of(X, metric)
    S = np.full((len(X), len(X)), np.nan)
    with ThreadExecutor(2) as executor:
        found = calibrate(executor, source, width, plan)
        items, parts = start_shards(executor, source, found, plan, run)
        for item in items:
            shard = ComputedShard(item, *parts) if parts else executor.result(item)
            for block in shard.blocks():
                assert np.isnan(S[block.rows, block.columns]).all(), "blocks do not overlap"
                S[block.rows, block.columns] = block.joint
    return S


@pytest.fixture
def run(tmp_path):
    run = Run.locate(tmp_path / "run.zarr")
    run.create(overwrite=False)
    run.update(id="a")
    return run


def assert_exact(S, P):
    """Compare entries as the design promises them: each that is not negligible, relatively."""
    expected = P + P.T
    near = expected > 1e-8
    np.testing.assert_allclose(S[near], expected[near], rtol=1e-11)
    np.testing.assert_allclose(S[~near], expected[~near], rtol=0.0, atol=1e-11)


@given(
    st.integers(4, 70),
    st.integers(1, 6),
    st.floats(0.02, 0.98),
    st.integers(1, 80),
    st.integers(1, 5),
    st.sampled_from(["memory", "recompute"]),
    st.integers(0, 2**32 - 1),
)
def test_any_data_perplexity_and_layout(n, n_features, share, block_rows, shards, storage, seed):
    X = np.random.default_rng(seed).normal(size=(n, n_features))
    perplexity = 1.0 + share * (n - 2)
    S = joint(X, Width(perplexity, None), block_rows=block_rows, shards=shards, p_storage=storage)
    assert_exact(S, reference.vectorised_conditional_probabilities(X, perplexity))


def groups(rng):
    return np.concatenate([1e-3 * rng.normal(size=(60, 4)), 1e-3 * rng.normal(size=(60, 4)) + 50.0])


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: rng.normal(size=(120, 8)),
        lambda rng: rng.normal(size=(120, 8)) + 1e4,
        groups,
        lambda rng: np.repeat(rng.normal(size=(60, 4)), 2, axis=0) + 1e-9 * rng.random((120, 1)),
    ],
    ids=["centred", "shifted", "two tight groups", "near-duplicates"],
)
@pytest.mark.parametrize("storage", STORAGES)
def test_probabilities_are_exact(rng, make, storage, run):
    X = make(rng)
    S = joint(X, Width(12.0, None), run, p_storage=storage)
    assert_exact(S, reference.vectorised_conditional_probabilities(X, 12.0))


def test_one_width_for_all(rng):
    X = rng.normal(size=(40, 3))
    S = joint(X, Width(None, 1.7**-2))
    assert_exact(S, reference.conditional_probabilities(X, sigma=1.7))


def test_distances_that_are_not_symmetric(rng):
    X = rng.random((50, 50))
    np.fill_diagonal(X, 0.0)
    precision = reference.precision_for_perplexity(X**2, 9.0)
    P = np.exp(reference.log_probabilities(X**2, precision))
    for storage in ("memory", "recompute"):
        assert_exact(joint(X, Width(9.0, None), metric="precomputed", p_storage=storage), P)


@pytest.mark.parametrize("n_features", [3, 900])
def test_every_layout_and_storage_has_the_same_bits(rng, run, n_features):
    X = rng.normal(size=(1400, n_features))
    expected = joint(X, Width(20.0, None))
    for layout in (
        {"block_rows": 1400, "shards": 1},
        {"block_rows": 100, "shards": 3},
        {"p_storage": "recompute"},
        {"p_storage": "zarr"},
        {"p_storage": "zarr", "block_rows": 300, "shards": 2},
    ):
        np.testing.assert_array_equal(joint(X, Width(20.0, None), run, **layout), expected)


@pytest.mark.parametrize("tail_mass", [1e-4, 0.2, 0.9])
def test_rows_of_p_in_memory_give_the_bits_that_distances_give(rng, tail_mass):
    X = rng.normal(size=(700, 3))
    plan, source, width = (
        plan_of(X, block_rows=64, shards=3),
        source_of(X),
        Width(9.0, None, tail_mass),
    )
    kept = {}
    with ThreadExecutor(2) as executor:
        found = calibrate(executor, source, width, plan, NOTHING._replace(kept=kept))
        assert sorted(kept) == [rows.start for rows in plan.blocks]
        for dtype in ("float64", "float32"):
            layout, what = replace(plan, dtype=dtype), (executor, source, found)
            joined, computed = (
                [executor.result(item) for item in start_shards(*what, layout, None, k).items]
                for k in (kept, None)
            )
            assert [len(shard.held) for shard in joined] == [1, 1, 1]
            for one, other in zip(joined, computed, strict=True):
                for name in ("data", "indices"):
                    np.testing.assert_array_equal(
                        *(
                            np.concatenate([getattr(block, name) for block in shard.blocks()])
                            for shard in (one, other)
                        )
                    )
                np.testing.assert_array_equal(*(degrees(shard) for shard in (one, other)))


def degrees(shard):
    out = np.zeros(shard.rows.stop - shard.rows.start)
    for block in shard.blocks():
        block.add_degrees(out[block.rows.start - shard.rows.start :][: block.indptr.size - 1])
    return out


def test_rows_of_which_much_is_kept_do_not_wait_in_memory(rng):
    X = rng.normal(size=(300, 3))
    kept = {}
    with ThreadExecutor(2) as executor:
        calibrate(
            executor,
            source_of(X),
            Width(100.0, None, 1e-3),
            plan_of(X),
            NOTHING._replace(kept=kept),
        )
    assert kept == {}


@pytest.mark.parametrize(("tail_mass", "least"), [(0.0, 8 * 300**2), (0.2, 12 * 300)])
def test_dask_knows_what_a_shard_takes(rng, tail_mass, least):
    """Else it would bring shards to tasks at each step."""
    X = rng.normal(size=(300, 3))
    plan, source = plan_of(X, shards=1), source_of(X)
    with ThreadExecutor(2) as executor:
        found = calibrate(executor, source, Width(10.0, None, tail_mass), plan)
        (handle,) = start_shards(executor, source, found, plan, None).items
        assert least < sizeof(executor.result(handle)) < least + 100_000


def test_single_precision_rounds_each_entry(rng, run):
    X = rng.normal(size=(200, 5))
    expected = joint(X, Width(20.0, None))
    for storage in ("memory", "zarr"):
        S = joint(X, Width(20.0, None), run, dtype="float32", p_storage=storage)
        np.testing.assert_array_equal(S, expected.astype(np.float32))


def test_shards_are_made_of_whole_row_blocks():
    X = np.zeros((1000, 2))
    plan = plan_of(X, block_rows=64, shards=3)
    assert [(rows.start, rows.stop) for rows in plan.shard_rows] == [
        (0, 384),
        (384, 768),
        (768, 1000),
    ]
    assert plan.shards == len(plan.shard_rows)


def test_what_a_row_block_writes(rng, run):
    X = rng.normal(size=(150, 4))
    plan, source = plan_of(X, block_rows=64), source_of(X)
    create_calibration(run, 150, 64)
    for name in ("P", "distances"):
        run.create_array(name, (150, 150), plan.pair_chunks)
    run_id = run.state.get("id")
    outputs = Outputs(run, run_id, probabilities=True, distances=True, dtype="float64")
    with ThreadExecutor(2) as executor:
        found = calibrate(executor, source, Width(11.0, None), plan, outputs)
    P = run.read("P")
    np.testing.assert_allclose(P.sum(axis=1), 1.0, rtol=1e-13)
    np.testing.assert_array_equal(np.diag(P), 0.0)
    np.testing.assert_allclose(reference.row_entropies(P), math.log(11.0), atol=1e-10)
    np.testing.assert_allclose(
        run.read("distances"), np.sqrt(reference.squared_distances(X)), rtol=1e-13
    )
    for kept, values in zip(kept_calibration(run), found, strict=True):
        np.testing.assert_array_equal(kept, values)


def test_a_task_that_outlived_its_run_writes_nothing_to_another(rng, run):
    """As one of a driver that was killed, at a place that a new one took."""
    X = rng.normal(size=(150, 4))
    plan, source = plan_of(X, block_rows=64), source_of(X)
    create_calibration(run, 150, 64)
    run.update(id="new")
    outputs = Outputs(run, "old", probabilities=False, distances=False, dtype="float64")
    with ThreadExecutor(2) as executor, pytest.raises(StoreError, match="replaced by another"):
        calibrate(executor, source, Width(11.0, None), plan, outputs)
    assert np.isnan(kept_calibration(run)).all()

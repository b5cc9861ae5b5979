from dataclasses import asdict
from itertools import pairwise

import pytest

from dasksne.errors import InvalidInputError, ResourceError
from dasksne.plan import (
    CHUNK_BYTES,
    CODEC_COPIES,
    JOINING_COPIES,
    OPTIMISER_MAPS,
    PANEL_BYTES,
    PROCESS_BYTES,
    SHARD_BYTES,
    SPARSE_BYTES,
    START_MAPS,
    Plan,
    format_bytes,
    make_plan,
)

GB = 10**9
PLENTY = 2**50


def plan(n=10_000, n_features=50, d=2, **changes):
    given = {
        "x_bytes": 0,
        "n_threads": 2,
        "memory_limit": PLENTY,
        "disk_found": PLENTY,
        "keeps_p": False,
        "keeps_x": False,
    }
    return make_plan(n, n_features, d, **{**given, **changes})


# Layout


@pytest.mark.parametrize("n", [2, 63, 64, 65, 1797, 10_000, 70_000, 1_000_000])
def test_blocks_and_shards_cover_all_rows_once(n):
    made = plan(n, p_storage="recompute")
    for slices, count in ((made.blocks, made.n_blocks), (made.shard_rows, made.shards)):
        assert slices[0].start == 0
        assert slices[-1].stop == n
        assert all(a.stop == b.start for a, b in pairwise(slices))
        assert len(slices) == count
    assert {rows.start for rows in made.shard_rows} <= {rows.start for rows in made.blocks}
    assert made.block_rows % 64 == 0


@pytest.mark.parametrize("n", [1797, 10_000, 70_000, 400_000])
def test_a_panel_stays_small(n):
    assert plan(n, p_storage="recompute").block_rows * n * 8 <= max(PANEL_BYTES, 64 * n * 8)


@pytest.mark.parametrize("n", [64, 10_000, 1_000_000])
def test_a_chunk_on_disk_stays_small(n):
    rows, columns = plan(n, p_storage="recompute").pair_chunks
    assert rows * columns * 8 <= CHUNK_BYTES
    assert columns >= 1


def test_a_layout_may_be_given():
    made = plan(1000, block_rows=100, shards=4)
    assert [(rows.start, rows.stop) for rows in made.shard_rows] == [
        (0, 300),
        (300, 600),
        (600, 900),
        (900, 1000),
    ]
    assert plan(1000, block_rows=100, shards=500).shards == 10


def test_the_layout_does_not_depend_on_the_machine():
    small = plan(n_threads=1, memory_limit=2 * GB)
    large = plan(n_threads=500, memory_limit=PLENTY)
    assert small.blocks == large.blocks
    assert small.shard_rows == large.shard_rows


# Bytes


def test_bytes_of_a_plan_in_memory():
    made = plan(10_000, x_bytes=4_000_000, p_storage="memory")
    panel = made.block_rows * 10_000 * 8
    assert made.p_bytes == 10_000**2 * 8
    assert made.memory_bytes == (
        PROCESS_BYTES + 4_000_000 + 2 * 2 * panel + OPTIMISER_MAPS * 8 * 20_000 + made.p_bytes
    )
    assert made.disk_bytes == 0


def test_bytes_of_a_plan_on_disk():
    kept = {"keeps_p": True, "keeps_x": True, "saves": ("distances", "Q")}
    made = plan(10_000, p_storage="zarr", **kept)
    panel = made.block_rows * 10_000 * (8 + 8)
    cached = 8 * 10_000 * 50
    assert made.memory_bytes == PROCESS_BYTES + cached + 2 * 2 * panel + OPTIMISER_MAPS * 8 * 20_000
    x, p, s, saves = 8 * 10_000 * 50, made.p_bytes, made.p_bytes, 2 * made.p_bytes
    assert made.disk_bytes == x + p + s + saves


def test_bytes_of_reading_p():
    made = plan(2000, block_rows=64, p_storage="zarr")
    reading = CODEC_COPIES * 64 * 2000 * 8
    cached = 8 * 2000 * 50
    assert made.memory_bytes == PROCESS_BYTES + cached + 2 * reading + OPTIMISER_MAPS * 8 * 4000


def test_no_shard_fills_a_process():
    """Of a dense S that many of them hold together."""
    made = plan(70_000, memory_limit=57_600_000_000, n_processes=32, n_threads=32)
    assert made.p_storage == "memory"
    assert len(made.shard_rows) == made.shards
    largest = max(rows.stop - rows.start for rows in made.shard_rows)
    assert 0.7 * SHARD_BYTES < largest * 70_000 * 8 <= 1.2 * SHARD_BYTES


def test_no_shard_of_a_coarse_stage_does():
    made = plan(400_000, coarse_share=0.01, memory_limit=100_000_000_000, p_storage="recompute")
    assert made.coarse_storage == "memory"
    coarse_bytes = 2 * 12 * 0.01 * 400_000**2
    assert coarse_bytes / len(made.shard_rows) <= 1.2 * SHARD_BYTES


def test_each_process_keeps_rows_of_a_stored_x_where_memory_is_left():
    one, two = (plan(1000, n_processes=n, p_storage="zarr") for n in (1, 2))
    assert one.kept_rows == two.kept_rows == 1000
    assert two.memory_bytes - one.memory_bytes == PROCESS_BYTES + 8 * 1000 * 50
    bare = one.memory_bytes - one.x_bytes - PROCESS_BYTES
    for n_processes in (1, 2):
        limit = bare + n_processes * (PROCESS_BYTES + 8 * 300 * 50)
        tight = plan(1000, n_processes=n_processes, memory_limit=limit, p_storage="zarr")
        assert (tight.kept_rows, tight.memory_bytes) == (300, limit)
    held = plan(1000, x_bytes=8, n_processes=2, p_storage="zarr")
    assert (held.x_bytes, held.kept_rows) == (8, 0)


def test_s_in_memory_comes_before_rows_of_x():
    whole = plan(1000)
    tight = plan(1000, memory_limit=whole.memory_bytes - whole.x_bytes)
    assert (tight.p_storage, tight.kept_rows) == ("memory", 0)


def joined_bytes(made, share):
    """Rows of P, and what tasks have in hand while they make rows of S from them."""
    at_once = JOINING_COPIES * min(made.n_threads, made.shards) / made.shards
    return int((1.0 + at_once) * 12 * share * made.n_points**2)


def test_rows_of_p_wait_in_memory_while_s_is_made_from_them():
    few, many = (plan(kept_share=share, p_storage="memory") for share in (0.1, 0.2))
    joined = joined_bytes(few, 0.1)
    assert few.memory_bytes - few.s_bytes == many.memory_bytes - many.s_bytes + joined
    annealed = plan(kept_share=0.1, anneals=True, p_storage="memory")
    assert annealed.memory_bytes == plan(p_storage="memory").memory_bytes


def test_sparse_affinities_stay_sparse_however_many_they_are():
    made = plan(kept_share=0.9, sparse_x_bytes=12, p_storage="memory")
    assert made.s_bytes == int(12 * 0.9 * 10_000**2) * 2
    bare = plan(p_storage="memory").memory_bytes - plan(p_storage="memory").s_bytes
    assert made.memory_bytes == bare + made.s_bytes + joined_bytes(made, 0.9)


def test_more_starts_and_fourier_grids_need_more():
    least = plan(n_threads=4, p_storage="zarr")
    more = plan(n_threads=4, p_storage="zarr", n_starts=6)
    assert more.memory_bytes - least.memory_bytes == 4 * START_MAPS * 8 * 20_000
    for n_threads, n_starts, at_once in ((1, 2, 1), (4, 2, 2), (4, 6, 4)):
        made = [plan(n_threads=n_threads, n_starts=n_starts, grid_bytes=grid) for grid in (0, GB)]
        assert made[1].memory_bytes - made[0].memory_bytes == at_once * GB


def test_a_row_block_is_no_larger_than_the_data():
    assert plan(1000, block_rows=10**6) == plan(1000, block_rows=1000)


@pytest.mark.parametrize(("block_rows", "stored"), [(64, 64), (512, 64), (100, 100), (7, 7)])
def test_chunks_that_are_read_divide_a_row_block(block_rows, stored):
    assert plan(1000, block_rows=block_rows).stored_rows == stored


def test_much_of_a_sparse_s_is_read_at_once():
    made = plan(250_000, kept_share=0.002, p_storage="zarr")
    rows = made.stored_sparse_rows
    assert rows % made.block_rows == 0
    assert 0.9 * SPARSE_BYTES < 24 * 0.002 * 250_000 * rows <= SPARSE_BYTES
    assert plan(250_000, kept_share=0.3, p_storage="zarr").stored_sparse_rows == made.block_rows


def test_more_of_anything_needs_more():
    least = plan(n_threads=1, p_storage="zarr")
    assert plan(n_threads=8, p_storage="zarr").memory_bytes > least.memory_bytes
    assert plan(x_bytes=GB, p_storage="zarr").memory_bytes > least.memory_bytes + GB
    assert plan(keeps_p=True, p_storage="zarr").disk_bytes == least.disk_bytes + least.p_bytes


def test_single_precision_halves_p():
    assert plan(dtype="float32").p_bytes == plan().p_bytes // 2
    assert plan(dtype="float32").memory_bytes < plan().memory_bytes - plan().p_bytes // 3


# Choices


def test_p_goes_where_it_fits():
    made = plan(p_storage="memory")
    needed = made.memory_bytes - made.x_bytes  # rows of X are kept where there is room for them
    held = needed - made.p_bytes
    for memory, disk, choice in (
        (needed, 0, "memory"),
        (needed - 1, made.p_bytes, "zarr"),
        (held, made.p_bytes, "zarr"),
        (held, made.p_bytes - 1, "recompute"),
    ):
        assert plan(memory_limit=memory, disk_found=disk).p_storage == choice


def test_what_is_asked_for_is_not_overruled():
    for asked in ("memory", "zarr", "recompute"):
        assert plan(p_storage=asked).p_storage == asked
    with pytest.raises(InvalidInputError, match="'auto', 'memory', 'zarr' or 'recompute'"):
        plan(p_storage="disk")


@pytest.mark.parametrize(
    ("asked", "d", "choice"),
    [
        ("auto", 2, "fourier"),
        ("auto", 3, "fourier"),
        ("auto", 4, "direct"),
        ("direct", 2, "direct"),
        ("fourier", 1, "fourier"),
    ],
)
def test_repulsion(asked, d, choice):
    assert plan(d=d, repulsion=asked).repulsion == choice


def test_fourier_sums_have_three_dimensions_at_most():
    with pytest.raises(InvalidInputError, match=r"n_components=4.*'direct' or 'auto'"):
        plan(d=4, repulsion="fourier")


# Refusals


def test_too_little_memory_says_what_would_fit():
    made = plan(p_storage="memory")
    needed = made.memory_bytes - made.x_bytes
    rest = format_bytes(needed - made.p_bytes)
    with pytest.raises(ResourceError) as caught:
        plan(p_storage="memory", memory_limit=500_000_000)
    text = str(caught.value)
    assert format_bytes(needed) in text
    assert "500.0 MB may be used" in text
    assert f"p_storage='zarr' or p_storage='recompute' needs {rest}" in text


def test_too_little_memory_for_anything_says_so():
    with pytest.raises(ResourceError, match=r"10,000 points.*1\.0 kB may be used.*block_rows"):
        plan(memory_limit=1000)


def test_too_little_disk_says_what_would_fit():
    with pytest.raises(ResourceError, match=r"1\.6 GB on disk and 900\.0 MB are free.*recompute"):
        plan(p_storage="zarr", keeps_p=True, disk_found=900_000_000)


def test_a_refusal_is_a_memory_error():
    with pytest.raises(MemoryError):
        plan(memory_limit=1)


def test_a_plan_survives_json():
    made = plan()
    assert Plan(**asdict(made)) == made


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_999, "1000.0 kB"),
        (8 * 10**13, "80.0 TB"),
        (8 * 10**18, "8000.0 PB"),
    ],
)
def test_bytes_for_people(n, text):
    assert format_bytes(n) == text


def test_s_of_a_coarse_stage_takes_the_place_of_what_comes_later():
    bare = plan(2000, p_storage="recompute")
    coarse = plan(2000, p_storage="recompute", coarse_share=0.1)
    s_bytes = int(12 * 0.1 * 2000**2) * 2
    assert (coarse.coarse_share, coarse.coarse_storage) == (0.1, "memory")
    assert coarse.memory_bytes == bare.memory_bytes + s_bytes + joined_bytes(coarse, 0.1)
    # The whole of S in memory is larger, and is there when the other has gone.
    assert plan(2000, coarse_share=0.1).memory_bytes == plan(2000).memory_bytes


def test_s_of_a_coarse_stage_goes_to_disk_where_memory_has_no_room():
    given = {"p_storage": "recompute", "coarse_share": 0.1}
    coarse = plan(2000, **given)
    limit = coarse.memory_bytes - coarse.x_bytes - 1
    s_bytes = int(12 * 0.1 * 2000**2) * 2
    tight = plan(2000, memory_limit=limit, **given)
    assert (tight.coarse_share, tight.coarse_storage) == (0.1, "zarr")
    assert tight.disk_bytes == s_bytes
    for nowhere in ({"disk_found": s_bytes - 1}, {"shares_store": False}):
        left_out = plan(2000, memory_limit=limit, **given, **nowhere)
        assert (left_out.coarse_share, left_out.coarse_storage) == (0.0, None)


def test_no_coarse_stage_where_products_are_cheap_without():
    for share, storage, expected in (
        (0.05, "memory", 0.0),
        (0.05, "zarr", 0.0),
        (0.05, "recompute", 0.01),
        (0.3, "memory", 0.01),
    ):
        made = plan(2000, kept_share=share, p_storage=storage, coarse_share=0.01)
        assert made.coarse_share == expected
    assert plan(2000, coarse_share=0.2).coarse_share == 0.0

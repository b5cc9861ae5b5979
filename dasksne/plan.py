"""What a run will need, in integers, before any work starts.

Every choice comes from sizes and the constants below, never from a clock, and is written to the
run, so that a resumed run makes the same ones.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from dasksne.errors import InvalidInputError, ResourceError
from dasksne.slices import consecutive

PStorage: TypeAlias = Literal["memory", "zarr", "recompute"]
Repulsion: TypeAlias = Literal["direct", "fourier"]

PANEL_BYTES = 32 << 20
"""Of a row block's distances to all points, held by a task while it calibrates."""
INDEX_BYTES = 4
"""Of a sparse entry's column."""
FOURIER_COMPONENTS = 3
"""Non-uniform FFTs exist up to three dimensions."""
CHUNK_BYTES = 64 << 20
"""Of an (N, N) array on disk."""
ROW_MULTIPLE = 64
"""Rows worked on at once by the kernels: a row block is a multiple of it."""
SHARD_ROWS = 8192
"""Of a large problem: as much of S as a task of a gradient step has at least."""
FEWEST_SHARDS = 8
"""Of a small problem: enough for the threads of one machine."""
SHARD_BYTES = 256 << 20
"""Of S in memory: about what a shard takes at most, of which a worker has to hold a few."""
PROCESS_BYTES = 64 << 20
"""Of each process: compiled code, caches and the allocator's slack, beyond the imports."""
SPARSE_BYTES = 32 << 20
"""Of rows of a sparse S that are stored and read at once: each read opens three arrays."""
CODEC_COPIES = 8
"""Of a chunk, while Zarr reads it: its codecs' own, and what the allocator keeps for the next."""
LARGEST_JOINED_SHARE = 1 / 8
"""Of P kept: up to it S is put together from rows of P in memory, and both fit where a dense S
would, in single precision too."""
OPTIMISER_MAPS = 112
"""Arrays of the map's size that the optimiser and a step of two starts hold, or the search for
eigenvectors."""
START_MAPS = 42
"""Of each further start that races: its map, its gradient, and 20 pairs of their changes."""
TWO_STARTS = 2
"""How many race at least, where any do."""
JOINING_COPIES = 4
"""Of its rows of P, while a task makes rows of S from them: those of P^T, and S in two copies."""


@dataclass(frozen=True)
class Plan:
    """The layout of a run and what it needs."""

    n_points: int
    n_features: int
    n_components: int
    dtype: str
    block_rows: int
    """Rows of P that a task computes at once, and of a chunk of P on disk."""
    n_blocks: int
    shards: int
    """Tasks of a gradient step, each with the same number of row blocks but for the last."""
    p_storage: PStorage
    repulsion: Repulsion
    kept_share: float
    """Of the entries of P, about; 1 where no tails are dropped."""
    coarse_share: float
    """Of P kept in a coarse stage before, in which more is dropped; 0 without it."""
    coarse_storage: PStorage | None
    """Of S in a coarse stage; None without it."""
    x_bytes: int
    """Of X in memory, as given, or read and kept."""
    kept_rows: int
    """Of an X that is read from a store, from the first on: each process keeps them."""
    p_bytes: int
    """Of P as it is kept: dense, or values and indices."""
    s_bytes: int
    """Of S = P + P^T."""
    memory_bytes: int
    """Needed at the peak, over all processes, beyond what importing takes."""
    memory_limit: int
    disk_bytes: int
    """Needed in the store."""
    disk_found: int
    n_threads: int
    keeps_p: bool
    """Whether P is written to the store."""

    @property
    def blocks(self) -> list[slice]:
        """The row blocks."""
        return consecutive(slice(0, self.n_points), self.block_rows)

    @property
    def shard_rows(self) -> list[slice]:
        """The rows of each shard: whole row blocks."""
        return consecutive(
            slice(0, self.n_points), self.block_rows * -(-self.n_blocks // self.shards)
        )

    @property
    def pair_chunks(self) -> tuple[int, int]:
        """Of an (N, N) array on disk: the rows of a block, and as many columns as CHUNK_BYTES."""
        return (self.block_rows, min(self.n_points, CHUNK_BYTES // (8 * self.block_rows)))

    @property
    def stored_rows(self) -> int:
        """Rows of a dense S that are read at once: of a chunk of it, and a divisor of a block's."""
        return _stored_rows(self.block_rows)

    @property
    def stored_sparse_rows(self) -> int:
        """Rows of a sparse S that are stored and read at once: whole row blocks."""
        a_row = 2 * (self.itemsize + INDEX_BYTES) * self.kept_share * self.n_points
        return max(1, int(SPARSE_BYTES / (a_row * self.block_rows))) * self.block_rows

    @property
    def has_cheap_products(self) -> bool:
        """Whether dozens of products with S are cheap beside making it."""
        return _has_cheap_products(self.kept_share, self.p_storage)

    @property
    def block_bytes(self) -> int:
        """Of a task that calibrates a row block: its distances and what is written of them."""
        return 2 * self.block_rows * self.n_points * (8 + (self.itemsize if self.keeps_p else 0))

    @property
    def itemsize(self) -> int:
        """Of an entry of P, in bytes."""
        return 8 if self.dtype == "float64" else 4


def make_plan(
    n_points: int,
    n_features: int,
    n_components: int,
    *,
    x_bytes: int,
    n_processes: int = 1,
    n_threads: int,
    memory_limit: int,
    disk_found: int,
    keeps_p: bool,
    keeps_x: bool,
    shares_store: bool = True,
    grid_bytes: int = 0,
    n_starts: int = TWO_STARTS,
    sparse_x_bytes: int = 0,
    saves: tuple[str, ...] = (),
    kept_share: float = 1.0,
    anneals: bool = False,
    coarse_share: float = 0.0,
    raw_bytes: int = 0,
    dtype: str = "float64",
    p_storage: str = "auto",
    repulsion: str = "auto",
    block_rows: int | Literal["auto"] = "auto",
    shards: int | Literal["auto"] = "auto",
) -> Plan:
    """Lay out a run.

    Parameters
    ----------
    n_points, n_features, n_components : int
    x_bytes : int
        Of X in memory while the run lasts; 0 where it is read from a store.
    n_processes : int
        Each of which keeps the same rows of an X that is read from a store.
    n_threads : int
        Tasks that run at once.
    memory_limit, disk_found : int
        Bytes that may be used.
    keeps_p, keeps_x : bool
        Whether P and X are written to the store.
    shares_store : bool
        Whether all tasks see the store, so that S may be there.
    grid_bytes : int
        Of Fourier grids, while one map is evaluated.
    n_starts : int
        Starts that race.
    sparse_x_bytes : int
        Of an X that is P and sparse, as it is given and written, so that S is sparse and held; 0
        for one that is written dense.
    saves : tuple of str
        Further (N, N) arrays that are written: "distances", "Q".
    kept_share : float
        Of the entries of P, about.
    anneals : bool
        Whether earlier stages have higher perplexities, at which hardly an entry can be dropped.
    coarse_share : float
        Of P kept in a coarse stage before, if there is to be one; 0 if not. It is left out where
        products with S are cheap without it, and where its own S fits neither in memory nor on
        disk.
    raw_bytes : int
        Of X before it is prepared, written to the store and removed when it is.
    dtype, p_storage, repulsion, block_rows, shards
        As for `dasksne.SNE`.

    Raises
    ------
    ResourceError
        The work fits neither in memory nor on disk; the message has the bytes.

    Examples
    --------
    >>> plan = make_plan(
    ...     10_000, 50, 2, x_bytes=0, n_threads=2, memory_limit=2 << 30, disk_found=0,
    ...     keeps_p=False, keeps_x=False)
    >>> plan.p_storage, plan.block_rows, plan.n_blocks, plan.shards, plan.p_bytes
    ('memory', 384, 27, 7, 800000000)
    """
    itemsize = 8 if dtype == "float64" else 4
    rows = _block_rows(n_points) if block_rows == "auto" else min(block_rows, n_points)
    n_blocks = -(-n_points // rows)
    dense = itemsize * n_points**2

    def sparse_bytes(share: float) -> int:
        return int((itemsize + INDEX_BYTES) * share * n_points**2)

    p_bytes = min(dense, sparse_bytes(kept_share)) if kept_share < 1.0 else dense
    s_bytes = 2 * sparse_bytes(kept_share)
    if not sparse_x_bytes:
        s_bytes = dense if anneals else min(dense, s_bytes)
    n_shards = _even_shards(n_blocks, _shards(n_points) if shards == "auto" else shards)

    def joined_bytes(share: float) -> int:
        """Return what rows of P take in memory until S is put together from them; else 0."""
        if share > LARGEST_JOINED_SHARE and not sparse_x_bytes:
            return 0
        joining = min(n_threads, n_shards) / n_shards
        return int((1.0 + JOINING_COPIES * joining) * (8 + INDEX_BYTES) * share * n_points**2)

    reads_x = x_bytes == 0
    panel = rows * n_points * (8 + (itemsize if keeps_p else 0))
    held = (
        PROCESS_BYTES * n_processes
        + x_bytes
        + n_threads * 2 * panel
        + (OPTIMISER_MAPS + START_MAPS * (n_starts - TWO_STARTS)) * 8 * n_points * n_components
        + min(n_threads, n_starts) * grid_bytes
    )
    written = (
        (p_bytes if keeps_p else 0)
        + dense * len(saves)
        + ((sparse_x_bytes or 8 * n_points * n_features) if keeps_x else 0)
    )
    room = disk_found - written if shares_store else 0
    taken = held + (0 if anneals else joined_bytes(kept_share))
    storage = _storage(p_storage, s_bytes, taken, room, memory_limit)
    if storage == "memory" and shards == "auto":
        n_shards = _even_shards(n_blocks, max(n_shards, math.ceil(s_bytes / SHARD_BYTES)))
    joined = 0 if anneals else joined_bytes(kept_share)
    if storage == "zarr":
        read = CODEC_COPIES * _stored_rows(rows) * n_points * itemsize
        held += n_threads * max(0, read - 2 * panel)
    coarse_storage: PStorage | None = None
    coarse_bytes = 2 * sparse_bytes(coarse_share)
    if _is_sparse(coarse_share) and not _has_cheap_products(kept_share, storage):
        taken = held + joined_bytes(coarse_share)
        coarse_storage = _storage("auto", coarse_bytes, taken, room, memory_limit)
        coarse_storage = None if coarse_storage == "recompute" else coarse_storage
    if coarse_storage == "memory" and shards == "auto":
        n_shards = _even_shards(n_blocks, max(n_shards, math.ceil(coarse_bytes / SHARD_BYTES)))
    in_memory = joined_bytes(coarse_share) + coarse_bytes if coarse_storage == "memory" else 0
    on_disk = coarse_bytes if coarse_storage == "zarr" else 0
    held += max(in_memory, joined + s_bytes if storage == "memory" else 0)
    # What is left keeps rows of X, from which all of P is computed.
    row_bytes = 8 * n_features * n_processes
    kept_rows = min(n_points, max(0, memory_limit - held) // row_bytes) if reads_x else 0
    plan = Plan(
        n_points=n_points,
        n_features=n_features,
        n_components=n_components,
        dtype=dtype,
        block_rows=rows,
        n_blocks=n_blocks,
        shards=n_shards,
        p_storage=storage,
        repulsion=_repulsion(repulsion, n_components),
        kept_share=kept_share,
        coarse_share=0.0 if coarse_storage is None else coarse_share,
        coarse_storage=coarse_storage,
        x_bytes=x_bytes + kept_rows * row_bytes,
        kept_rows=kept_rows,
        p_bytes=p_bytes,
        s_bytes=s_bytes,
        memory_bytes=held + kept_rows * row_bytes,
        memory_limit=memory_limit,
        disk_bytes=max(
            written + max(on_disk, s_bytes if storage == "zarr" else 0),
            raw_bytes + 8 * n_points * n_features if raw_bytes else 0,
        ),
        disk_found=disk_found,
        n_threads=n_threads,
        keeps_p=keeps_p,
    )
    _refuse_what_cannot_fit(plan)
    return plan


def _has_cheap_products(kept_share: float, storage: PStorage) -> bool:
    return _is_sparse(kept_share) and storage != "recompute"


def _is_sparse(share: float) -> bool:
    return 0.0 < share <= LARGEST_JOINED_SHARE


def _block_rows(n_points: int) -> int:
    """Return as many rows as keep a panel at PANEL_BYTES, in whole multiples."""
    rows = PANEL_BYTES // (8 * n_points) // ROW_MULTIPLE * ROW_MULTIPLE
    # A small problem still has a block for each of a few threads.
    spread = -(-n_points // FEWEST_SHARDS // ROW_MULTIPLE) * ROW_MULTIPLE
    return max(ROW_MULTIPLE, min(rows, spread))


def _stored_rows(block_rows: int) -> int:
    return block_rows if block_rows % ROW_MULTIPLE else ROW_MULTIPLE


def _shards(n_points: int) -> int:
    return max(FEWEST_SHARDS, math.ceil(n_points / SHARD_ROWS))


def _even_shards(n_blocks: int, wanted: int) -> int:
    """Return how many shards of equally many row blocks there are, at most as many as wanted."""
    return -(-n_blocks // -(-n_blocks // min(wanted, n_blocks)))


def _storage(asked: str, s_bytes: int, held: int, room: int, memory_limit: int) -> PStorage:
    """Prefer memory, then the room on disk, then computing P anew in each step."""
    if asked in ("memory", "zarr", "recompute"):
        return asked  # type: ignore[return-value]
    if asked != "auto":
        raise InvalidInputError(
            f"p_storage={asked!r} is not known; use 'auto', 'memory', 'zarr' or 'recompute'"
        )
    if held + s_bytes <= memory_limit:
        return "memory"
    return "zarr" if s_bytes <= room else "recompute"


def _repulsion(asked: str, n_components: int) -> Repulsion:
    """Prefer Fourier sums where they exist; each map still goes by all pairs where that is less."""
    if asked == "direct" or (asked == "auto" and n_components > FOURIER_COMPONENTS):
        return "direct"
    if n_components > FOURIER_COMPONENTS:
        raise InvalidInputError(
            f"repulsion='fourier' with n_components={n_components}: it exists up to "
            f"{FOURIER_COMPONENTS} dimensions; use repulsion='direct' or 'auto'"
        )
    return "fourier"


def _refuse_what_cannot_fit(plan: Plan) -> None:
    if plan.memory_bytes > plan.memory_limit:
        remedy = (
            "p_storage='zarr' or p_storage='recompute' needs "
            f"{format_bytes(plan.memory_bytes - plan.s_bytes)}"
            if plan.p_storage == "memory"
            else "a smaller block_rows needs less"
        )
        raise ResourceError(
            f"{plan.n_points:,} points with p_storage={plan.p_storage!r} need "
            f"{format_bytes(plan.memory_bytes)} of memory and {format_bytes(plan.memory_limit)} "
            f"may be used; {remedy}"
        )
    if plan.disk_bytes > plan.disk_found:
        raise ResourceError(
            f"{plan.n_points:,} points with p_storage={plan.p_storage!r} need "
            f"{format_bytes(plan.disk_bytes)} on disk and {format_bytes(plan.disk_found)} are "
            "free; choose another store, or p_storage='recompute', which writes no P"
        )


def format_bytes(n: int) -> str:
    """Return a size as people read it.

    Examples
    --------
    >>> format_bytes(800_000_000), format_bytes(512)
    ('800.0 MB', '512 B')
    """
    if n < 1000:
        return f"{n} B"
    for power, unit in enumerate(("kB", "MB", "GB", "TB", "PB"), start=1):
        if n < 1000 ** (power + 1) or unit == "PB":
            return f"{n / 1000**power:.1f} {unit}"
    raise AssertionError(n)

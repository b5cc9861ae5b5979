"""A Dask array that is larger than the memory it is allowed: what does not fit goes to Zarr.

    python examples/large_array.py [ROWS [FEATURES [FOLDER]]]

X streams into the run, a block at a time, and is never whole in memory; nor is P.
"""

import sys
from pathlib import Path

import dask
import dask.array as da
import numpy as np

import dasksne
from dasksne.plan import format_bytes

CLUSTERS = 5


def clusters(n_rows: int, n_features: int) -> da.Array:
    """Return clusters of points, made a block at a time when they are asked for."""
    centres = np.random.default_rng(1).normal(size=(CLUSTERS, n_features))
    noise = da.random.default_rng(0).normal(size=(n_rows, n_features), chunks=(250, n_features))
    which = da.arange(n_rows, chunks=250) % CLUSTERS
    return noise + which.map_blocks(
        lambda block: centres[block], dtype=float, new_axis=1, chunks=(which.chunks[0], n_features)
    )


def main(
    n_rows: int = 4_000, n_features: int = 4_000, folder: Path = Path(), **options: object
) -> None:
    """Write large.zarr to a folder."""
    X = clusters(n_rows, n_features)
    limit = X.nbytes * 9 // 10
    model = dasksne.SNE(
        store=folder / "large.zarr",
        overwrite=True,
        memory_limit=limit,
        block_rows=64,  # less memory for the tasks under way than by default
        annealing=None,
        verbose=1,
        **options,
    )
    plan = model.plan(X)
    print(f"X takes {format_bytes(X.nbytes)}, P {format_bytes(plan.p_bytes)}")
    print(f"allowed: {format_bytes(limit)}, needed: {format_bytes(plan.memory_bytes)}")
    model.fit(X)
    print(f"C = {model.kl_divergence_:.2f} nats, P between steps in {plan.p_storage}")


if __name__ == "__main__":
    kinds = (int, int, Path)
    with dask.config.set(num_workers=2):
        main(*(kind(text) for kind, text in zip(kinds, sys.argv[1:], strict=False)))

"""A Dask array that is larger than the memory it is allowed: what does not fit goes to Zarr.

    python examples/large_array.py [ROWS [FOLDER]]

No block of X is made twice, and X is never whole in memory: it streams into the run, and so does P.
"""

import sys
from pathlib import Path

import dask
import dask.array as da
import numpy as np

import dasksne
from dasksne.plan import format_bytes

FEATURES = 2_000


def clusters(n_rows: int) -> da.Array:
    """Return five clusters of points, made a block at a time when they are asked for."""
    rng = da.random.default_rng(0)
    noise = rng.normal(size=(n_rows, FEATURES), chunks=(1_000, FEATURES))
    centres = da.from_array(np.random.default_rng(1).normal(size=(5, FEATURES)), chunks=-1)
    return noise + centres[da.arange(n_rows, chunks=1_000) % 5]


def main(n_rows: int = 12_000, folder: Path = Path()) -> None:
    """Write large.zarr to a folder."""
    X = clusters(n_rows)
    limit = X.nbytes  # half of this would do for the blocks under way
    model = dasksne.SNE(
        store=folder / "large.zarr", overwrite=True, memory_limit=limit, p_storage="zarr", verbose=1
    )
    plan = model.plan(X)
    print(f"X takes {format_bytes(X.nbytes)}, P {format_bytes(plan.p_bytes)}")
    print(f"allowed: {format_bytes(limit)}, needed: {format_bytes(plan.memory_bytes)}")
    Y = model.fit_transform(X)
    print(f"{Y!r}, C = {model.kl_divergence_:.2f} nats")


if __name__ == "__main__":
    with dask.config.set(num_workers=2):
        main(*(kind(text) for kind, text in zip((int, Path), sys.argv[1:], strict=False)))

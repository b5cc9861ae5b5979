"""A map made on the workers of a Dask cluster.

    python examples/cluster_job.py tcp://host:8786 INPUT.zarr RUN.zarr
    python examples/cluster_job.py scheduler.json INPUT.zarr RUN.zarr

INPUT holds an array X, shape (N, D); it and RUN are on a disk or in a bucket that all workers
reach. Started again after it was stopped, the job goes on where the run stands.
"""

import argparse

import zarr
from dask.distributed import Client

import dasksne
from dasksne.errors import StoreError


def has_begun(run: str) -> bool:
    """Say whether a run is there that had its data before it was stopped."""
    try:
        return dasksne.open_run(run).status != "created"
    except StoreError:
        return False


def main(scheduler: str, source: str, run: str, **options: object) -> None:
    """Make or finish the run."""
    where = {"address": scheduler} if "://" in scheduler else {"scheduler_file": scheduler}
    with Client(**where) as client:
        client.wait_for_workers(1)
        if has_begun(run):
            model = dasksne.resume(run, verbose=1)
        else:
            X = zarr.open_array(source, path="X", mode="r")
            model = dasksne.SNE(store=run, verbose=1, **options).fit(X)
    print(f"C = {model.kl_divergence_:.2f} nats, {model.report_['stopped']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scheduler", help="address, or scheduler file")
    parser.add_argument("input")
    parser.add_argument("run")
    arguments = parser.parse_args()
    main(arguments.scheduler, arguments.input, arguments.run)

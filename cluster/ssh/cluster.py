"""What run.sh runs: hands out the certificate, starts a worker on each host, runs the command."""

import asyncio
import sys
from pathlib import Path

import asyncssh
import dask
from dask.distributed import Client, SSHCluster

from dasksne.cli import main

WORKER_SECONDS = 60
"""To wait for all workers."""


async def hand_out(hosts: list[str], folder: Path) -> None:
    """Put the key and the certificate where they are here, readable by this user alone."""
    for host in hosts:
        async with asyncssh.connect(host) as connection:
            for path in (folder / "key.pem", folder / "cert.pem"):
                # By way of another name: homes may be shared, and this be the file that is there.
                put = f"umask 077; mkdir -p {folder} && cat >{path}.new && mv {path}.new {path}"
                await connection.run(put, input=path.read_text(), check=True)


def start(hosts: list[str], arguments: list[str]) -> None:
    """Run the command on a cluster of these hosts; the first has the scheduler too."""
    certificate = dask.config.get("distributed.comm.tls.ca-file")
    asyncio.run(hand_out(hosts, Path(certificate).parent))
    with (
        SSHCluster(
            [hosts[0], *hosts],
            scheduler_options={"protocol": "tls://", "port": 0, "dashboard": False},
            worker_options={"protocol": "tls://", "dashboard": False},
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(len(hosts), timeout=WORKER_SECONDS)
        main(arguments)


if __name__ == "__main__":
    start(sys.argv[1].split(","), sys.argv[2:])

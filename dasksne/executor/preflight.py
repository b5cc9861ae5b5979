"""What must hold on a cluster before work starts."""

from collections import defaultdict
from typing import Any

from distributed import Client

from dasksne.errors import ClusterError

AGREE = ("python", "dasksne", "dask", "distributed", "zarr")
"""What reads the others' messages and chunks; the kernels' own libraries are judged by their
results, see `dasksne.agreement`."""
NEEDED = ("numpy", "numba", "finufft", "scipy")


def require_same_versions(client: Client) -> None:
    """Raise ClusterError where workers have other versions than this process, or lack a package."""
    versions = client.get_versions(packages=[*AGREE[1:], *NEEDED])
    own = _packages(versions["client"])
    differing: dict[str, list[str]] = defaultdict(list)
    for address, worker in sorted(versions["workers"].items()):
        found = _packages(worker)
        for name in (*AGREE, *NEEDED):
            if found[name] is None:
                differing[f"{name} is missing"].append(address)
            elif name in AGREE and found[name] != own[name]:
                differing[f"{name} is {found[name]}, here {own[name]}"].append(address)
    if differing:
        said = "; ".join(
            f"{what} on {len(where)} workers, the first of them {where[0]}"
            for what, where in differing.items()
        )
        raise ClusterError(f"the workers are not set up as this process is: {said}")


def _packages(info: dict[str, Any]) -> dict[str, str | None]:
    packages = {name: info["packages"].get(name) for name in (*AGREE, *NEEDED)}
    python = packages["python"] or ""
    return {**packages, "python": ".".join(python.split(".")[:2])}

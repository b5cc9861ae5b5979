"""Time the import of the package, and its command from cold and warm.

    python tests/benchmarks/startup.py --json startup.json

Cold is as in a new environment: no compiled code of Python or Numba is found.
"""

import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from common import Report, Spread, alternate, make_parser

IMPORTS = {
    "import dask.array, sklearn.base": "import dask.array, sklearn.base",
    "import dasksne": "import dasksne",
    "from dasksne import SNE": "from dasksne import SNE",
}

COMMAND = "from dasksne.cli import main; main()"


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--embed-repeats", type=int, default=1, help="of the command")
    parser.add_argument("--max-iter", type=int, default=240, help="of each stage of the command")
    options = parser.parse_args(arguments)
    report = Report("Start", options)
    runs = {name: _python("-c", code) for name, code in IMPORTS.items()}
    found = alternate(runs, options.repeats)
    bare = found["import dask.array, sklearn.base"]
    report.table(
        "Imports, with the start of the interpreter",
        [
            {"what": name, "time": seconds, "more": seconds - bare}
            for name, seconds in found.items()
        ],
    )
    if options.embed_repeats:
        report.table("dasksne embed digits -o digits.zarr", _embed(options))
    report.finish()


def _embed(options: Namespace) -> list[dict[str, object]]:
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(options.embed_repeats):
        with tempfile.TemporaryDirectory() as folder:
            caches = {
                "NUMBA_CACHE_DIR": str(Path(folder) / "numba"),
                "PYTHONPYCACHEPREFIX": str(Path(folder) / "python"),
            }
            for which in seconds:
                out = str(Path(folder) / f"{which}.zarr")
                embed = ("embed", "digits", "-o", out, "--max-iter", str(options.max_iter))
                run = _python("-c", COMMAND, *embed, **caches)
                seconds[which] += alternate({which: run}, 1, warm_up=False)[which].values
    return [{"start": which, "time": Spread(tuple(times), "s")} for which, times in seconds.items()]


def _python(*arguments: str, **environment: str) -> Callable[[], object]:
    command = [sys.executable, *arguments]
    surroundings = {**os.environ, **environment}
    return lambda: subprocess.run(command, check=True, capture_output=True, env=surroundings)


if __name__ == "__main__":
    main()

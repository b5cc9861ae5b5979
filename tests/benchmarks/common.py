"""What the benchmarks share: options, data, alternating times, and the report."""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from sklearn.datasets import make_blobs
from threadpoolctl import threadpool_limits

PACKAGES = (
    "dasksne",
    "dask",
    "distributed",
    "finufft",
    "numba",
    "numpy",
    "openTSNE",
    "scikit-learn",
    "scipy",
    "torch",
    "torchdr",
    "zarr",
)
FEATURES = 50
"""Of the data: MNIST by its leading principal components, or blobs of as many dimensions."""
BLOBS = 100
REST = 0.2
"""Seconds before each run: threads of OpenMP and BLAS spin for a while after the one before."""
SEED = 0


class Spread(NamedTuple):
    """One quantity as several rounds found it."""

    values: tuple[float, ...]
    unit: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __truediv__(self, other: "Spread") -> "Spread":
        """Return the ratio of each round, in which both were measured one after the other."""
        pairs = zip(self.values, other.values, strict=True)
        return Spread(tuple(a / b for a, b in pairs))

    def __add__(self, other: "Spread") -> "Spread":  # type: ignore[override]
        pairs = zip(self.values, other.values, strict=True)
        return Spread(tuple(a + b for a, b in pairs), self.unit)

    def __sub__(self, other: "Spread") -> "Spread":
        pairs = zip(self.values, other.values, strict=True)
        return Spread(tuple(a - b for a, b in pairs), self.unit)

    def scaled(self, factor: float, unit: str) -> "Spread":
        return Spread(tuple(factor * value for value in self.values), unit)

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        unit = f" {self.unit}" if self.unit else ""
        return f"{_short(self.median)}{unit} ({_short(low)} to {_short(high)})"

    def as_json(self) -> dict[str, Any]:
        summary = {"median": self.median, "min": min(self.values), "max": max(self.values)}
        return {**summary, "unit": self.unit, "values": self.values}


def alternate(
    contenders: Mapping[str, Callable[[], object]], repeats: int, *, warm_up: bool = True
) -> dict[str, Spread]:
    """Time each contender in turn, round after round: A B A B.

    What disturbs the machine for a while then disturbs all of them. A first round that is not
    counted compiles code and fills caches.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for counted in [False] * warm_up + [True] * repeats:
        for name, run in contenders.items():
            time.sleep(REST)
            began = time.perf_counter()
            run()
            if counted:
                seconds[name].append(time.perf_counter() - began)
    return {name: Spread(tuple(values), "s") for name, values in seconds.items()}


class Data(NamedTuple):
    X: np.ndarray
    name: str


def make_data(mnist: Path | None, n: int) -> Data:
    """Return N points of 50 features: MNIST where there is a copy of it, blobs elsewhere."""
    if mnist is None:
        X, _ = make_blobs(n, FEATURES, centers=BLOBS, random_state=SEED)
        return Data(X, f"make_blobs, {n:,} points of {FEATURES} features in {BLOBS} blobs")
    X = read_mnist(mnist)
    if n > len(X):
        raise SystemExit(f"{mnist} has {len(X):,} rows, fewer than {n:,}")
    return Data(principal_components(X[:n]), f"MNIST, first {n:,} rows, {FEATURES} components")


def read_mnist(path: Path) -> np.ndarray:
    with np.load(path) as arrays:
        return arrays["X"] / 255.0


def principal_components(X: np.ndarray) -> np.ndarray:
    X = X - X.mean(axis=0)
    vectors = np.linalg.eigh(X.T @ X)[1]
    return X @ vectors[:, : -FEATURES - 1 : -1]


def spread_map(X: np.ndarray, deviation: float = 5.0) -> np.ndarray:
    """Return the first two features as a map, as wide as maps are when they are finished."""
    return deviation * X[:, :2] / X[:, 0].std()


class Report:
    """Lines and tables on the screen as they come, all of them as JSON at the end."""

    def __init__(self, title: str, options: argparse.Namespace) -> None:
        self._path: Path | None = options.json
        self._options = {name: str(value) for name, value in vars(options).items()}
        self._machine = machine(options.threads)
        self._notes: list[str] = []
        self._tables: list[dict[str, Any]] = []
        self._title = title
        say(f"### {title}\n")
        for name, value in self._machine.items():
            say(f"- {name}: {value}")

    def note(self, text: str) -> None:
        self._notes.append(text)
        say(f"- {text}")

    def table(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show rows that share their columns."""
        self._tables.append({"title": title, "rows": [_plain(row) for row in rows]})
        say(f"\n{title}\n\n| {' | '.join(rows[0])} |")
        say(f"|{' --- |' * len(rows[0])}")
        for row in rows:
            say(f"| {' | '.join(_cell(value) for value in row.values())} |")

    def finish(self) -> None:
        if self._path is not None:
            found = {
                "title": self._title,
                "machine": self._machine,
                "options": self._options,
                "notes": self._notes,
                "tables": self._tables,
            }
            self._path.write_text(json.dumps(found, indent=2) + "\n")


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.as_json() if isinstance(value, Spread) else value for name, value in row.items()
    }


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def machine(threads: int) -> dict[str, str]:
    """Describe what the numbers were measured on; nothing that names the computer."""
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "machine": f"{cpu_model()}, {os.cpu_count()} cores, {memory:.0f} GiB, {sys.platform}",
        "threads": str(threads),
        "load before": f"{load:.1f}",
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }


def cpu_model() -> str:
    """Return the processor's name and its widest vectors."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    known = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in known.items()}
    flags = fields.get("flags", "").split()
    vectors = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "")
    return f"{fields.get('model name', platform.machine())} {vectors}".strip()


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def make_parser(description: str | None, *, repeats: int = 5) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, help=".npz with X, shape (70000, 784); else blobs")
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds that are counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where the numbers are kept")
    return parser


def available(
    report: Report, builders: Mapping[str, Callable[[], Callable[[], object]]]
) -> dict[str, Callable[[], object]]:
    """Make the peers that are installed ready; name the others."""
    ready = {}
    for name, build in builders.items():
        try:
            ready[name] = build()
        except ImportError as error:
            report.note(f"{name} is missing: {error}")
    return ready


def limited(threads: int) -> threadpool_limits:
    """Hold BLAS and OpenMP of all contenders at a number of threads."""
    return threadpool_limits(limits=threads)

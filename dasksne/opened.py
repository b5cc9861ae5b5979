"""A run that is opened to be looked at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from dasksne.errors import InvalidInputError, StoreError
from dasksne.finished import kept_calibration
from dasksne.kernels.calibration import Calibration
from dasksne.kernels.probabilities import conditional_probabilities
from dasksne.labels import kept_labels
from dasksne.metrics import Quality, kl_of_run, quality_of_run
from dasksne.pictures import plot, plot_history, require_drawable
from dasksne.run import Run
from dasksne.sparse import read_sparse, sparse_matrix
from dasksne.staging import stored_source
from dasksne.types import FloatArray


@dataclass(frozen=True)
class OpenedRun:
    """A run, read-only: its large arrays as Dask arrays, its small ones as NumPy arrays."""

    run: Run

    @property
    def status(self) -> str:
        """How far it came: created, started or finished."""
        return str(self.run.state["status"])

    @property
    def parameters(self) -> dict[str, Any]:
        """The options that the run was given; none before it has started."""
        return dict(self.run.state.get("parameters", {}))

    @property
    def summary(self) -> dict[str, Any]:
        """All that the run's attributes say."""
        return self.run.state

    @property
    def X(self) -> da.Array:  # noqa: N802 - the field's name
        """The data, as it was prepared to be mapped, shape (N, D); what is sparse becomes dense."""
        if self.run.has("X/0"):
            return self._in_row_blocks(_rows_of_x, "float64")
        return self._lazy("X")

    @property
    def P(self) -> da.Array:  # noqa: N802
        """p_{j|i}, shape (N, N): read where the run keeps it, else computed from X.

        With weights, of one copy of each point.
        """
        if self.run.has("P") and not self.parameters["tail_mass"]:
            return self._lazy("P")
        return self._in_row_blocks(_rows_of_p, self.run.state["plan"]["dtype"])

    @property
    def Q(self) -> da.Array:  # noqa: N802
        """q_{j|i} of the embedding, shape (N, N), where the run was asked to save it."""
        return self._lazy("Q")

    @property
    def distances(self) -> da.Array:
        """|x_i - x_j|, shape (N, N), where the run was asked to save them."""
        return self._lazy("distances")

    @property
    def precision(self) -> FloatArray:
        """beta_i, shape (N,), in units of 1 / distance^2."""
        exponent: int = self.run.state["exponent"]
        return np.asarray(np.ldexp(self._array("precision"), -2 * exponent))

    @property
    def sample_weight(self) -> FloatArray | None:
        """How often each point counts, shape (N,), where not once each."""
        return self.run.read_whole("sample_weight") if self.run.has("sample_weight") else None

    @property
    def n_counted(self) -> float:
        """How many points there are, each as often as it counts."""
        weights = self.sample_weight
        return self.run.state["plan"]["n_points"] if weights is None else float(np.sum(weights))

    @property
    def embedding(self) -> FloatArray:
        """The map, shape (N, n_components)."""
        return self._array("embedding")

    @property
    def labels(self) -> npt.NDArray[np.generic] | None:
        """Of the points, shape (N,), where the input had some."""
        return kept_labels(self.run)

    @property
    def history(self) -> dict[str, FloatArray]:
        """A column each, as `SNE.history_`."""
        self._require("history")
        return {name: self.run.read(f"history/{name}") for name in self.run.members("history")}

    def quality(self, n_neighbors: Sequence[int] = (10,)) -> Quality:
        """Judge the map by the neighbours that it keeps; see `dasksne.metrics.quality`."""
        return quality_of_run(self.run, self.embedding, n_neighbors)

    def kl_per_point(self) -> FloatArray:
        """Return KL(P_i || Q_i) of each point, or one copy of it, in nats, shape (N,)."""
        return kl_of_run(self.run, self.embedding)

    def plot(self, path: str | Path, *, color_by: str | int = "labels") -> None:
        """Draw the map, as `dasksne.plot` does.

        Parameters
        ----------
        path : path
            Ends in .png, .svg, .pdf or .html.
        color_by : str or int, optional
            "labels", those that the run keeps, if any; "cost", that of each point (looks at all
            pairs of points); a number k, column k of X, counted from 0.

        Raises
        ------
        InvalidInputError
            There is no such column, or the map cannot be drawn; see `dasksne.plot`.
        ImportError
            The extra is not installed.
        """
        require_drawable(path, self.embedding.shape)
        if color_by == "labels":
            plot(self.embedding, path, labels=self.labels)
        elif color_by == "cost":
            plot(self.embedding, path, labels=self.kl_per_point(), name="cost in nats")
        else:
            k = self._column(color_by)
            plot(self.embedding, path, labels=self.X[:, k].compute(), name=f"column {k}")

    def plot_history(self, path: str | Path) -> None:
        """Draw cost, gradient and step of each iteration, as `dasksne.pictures.plot_history`."""
        plot_history(self.history, path)

    def _column(self, given: str | int) -> int:
        n = self.X.shape[1]
        if not str(given).isdecimal() or int(given) >= n:
            raise InvalidInputError(
                f"color_by={given!r} is not known; use 'labels', 'cost' or a column of X, "
                f"0 to {n - 1}"
            )
        return int(given)

    def _array(self, name: str) -> FloatArray:
        self._require(name)
        return self.run.read(name)

    def _lazy(self, name: str) -> da.Array:
        self._require(name)
        array = self.run.array(name)
        # Named after the run's id: a run that replaces another has other keys.
        lazy: da.Array = da.from_array(
            array, chunks=array.chunks, name=f"{name}-{self.run.state['id']}"
        )
        return lazy

    def _in_row_blocks(self, function: Callable[..., FloatArray], dtype: str) -> da.Array:
        n, rows = len(self.precision), self.run.state["plan"]["block_rows"]
        lazy: da.Array = da.map_blocks(
            partial(function, run=self.run),
            name=f"{function.__name__.strip('_')}-{self.run.state['id']}",
            chunks=da.core.normalize_chunks((rows, n), (n, n)),
            dtype=dtype,
            meta=np.empty((0, 0)),
        )
        return lazy

    def _require(self, name: str) -> None:
        if not self.run.has(name):
            raise StoreError(f"{self.run.url} has no {name}; its status is {self.status!r}")


def _rows_of_x(run: Run, block_info: Any = None) -> FloatArray:
    """Return a dense row block of an X that is sparse."""
    (start, stop), (_, n) = block_info[None]["array-location"]
    indptr = run.read("X/0/indptr", slice(start, stop + 1))
    span = slice(indptr[0], indptr[-1])
    parts = run.read("X/0/data", span), run.read("X/0/indices", span), indptr - indptr[0]
    return np.asarray(sparse_matrix(parts, (stop - start, n), f"X of {run.url}").toarray())


def _rows_of_p(run: Run, block_info: Any = None) -> FloatArray:
    """Return a dense row block of P: from its kept entries, else from X."""
    (start, stop), (_, n) = block_info[None]["array-location"]
    if run.has("P"):
        kept = sparse_matrix(read_sparse(run, "P", start), (stop - start, n), f"P of {run.url}")
        return np.asarray(kept.toarray())
    dtype = run.state["plan"]["dtype"]
    if run.has("X/0"):
        affinities = _rows_of_x(run, block_info)
        affinities /= np.max(affinities, axis=1, keepdims=True)  # whose sum cannot overflow
        affinities /= np.sum(affinities, axis=1, keepdims=True)
        return affinities.astype(dtype, copy=False)
    source, rows = stored_source(run), slice(start, stop)
    found = Calibration(*(values[rows] for values in kept_calibration(run)))
    p = source.panel(rows)
    conditional_probabilities(p, start, found, p)
    return p.astype(dtype, copy=False)


def open_run(store: str | Path, *, storage_options: Mapping[str, Any] | None = None) -> OpenedRun:
    """Open a run to look at it; nothing is computed or changed.

    Parameters
    ----------
    store : path or URL
    storage_options : dict, optional
        For a URL.

    Raises
    ------
    StoreError
        There is no run, or one of another format.

    Examples
    --------
    >>> import tempfile, numpy, dasksne
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> X = numpy.random.default_rng(0).normal(size=(50, 3))
    >>> Y = dasksne.SNE(perplexity=5, store=path).fit_transform(X)
    >>> run = dasksne.open_run(path)
    >>> run.status, run.P.shape
    ('finished', (50, 50))
    """
    run = Run.locate(store, storage_options)
    run.require()
    return OpenedRun(run)

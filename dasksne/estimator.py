"""scikit-learn's face of the package: keeps parameters, checks the data, starts the run."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Self

import dask.array as da
import numpy as np
import numpy.typing as npt
import zarr
from dask.utils import parse_bytes
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from dasksne import planning, resuming
from dasksne.errors import InvalidInputError
from dasksne.executor import current_executor
from dasksne.job import Event
from dasksne.launch import launch
from dasksne.lazy import as_asked, is_frame
from dasksne.plan import Plan
from dasksne.progress import Reporter
from dasksne.run import Run
from dasksne.settings import PAIRWISE, Settings, number_or_array, perplexity_of
from dasksne.source import bytes_of, is_mapped
from dasksne.staging import Data, as_collection, is_graph, require_numbers, require_seen
from dasksne.transform import place_later, place_now
from dasksne.types import FloatArray
from dasksne.weighting import weighted_task
from dasksne.work import Result, report

Callback = Callable[[Event], bool | None]


class SNE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Stochastic Neighbor Embedding, exact, of data of any size.

    Work runs on the current Dask client, or on this process's threads where there is none.

    Parameters
    ----------
    n_components : int, default=2
        Dimensions d of the map.
    perplexity : float, optional
        Effective number of neighbours of each point, above 1 and below N - 1. 30 unless `sigma` is
        given.
    sigma : float or array of shape (N,), optional
        Widths instead, one for all points or one for each: p_{j|i} is proportional to
        exp(-|x_i - x_j|^2 / sigma_i^2) (not 2 sigma_i^2), in the units of X.
    metric : {"euclidean", "cosine", "precomputed", "affinities"}, default="euclidean"
        With "cosine", rows count by their direction alone: each is divided by its length, so that
        the squared distance of two is 2 - 2 cos of the angle between them. With "precomputed", X
        holds distances (not squared), shape (N, N). With "affinities", X is P itself, shape (N, N),
        dense or sparse, such as a graph of neighbours with its weights: not negative, the diagonal
        zero, and each row is divided by its sum. Perplexity, sigma and tail_mass do not go with it,
        and the map takes no new points.
    pca : int, optional
        So many principal components of X are mapped in place of its features. At most the smaller
        of N and D.
    scale : bool, default=False
        Whether each feature is first centred and divided by its standard deviation; one that is
        constant becomes zero. New points are prepared as X was, and the run keeps what was
        prepared as its X, and mean, scale and components beside it.
    init : {"pca", "random", "spectral", "best"} or array of shape (N, n_components), default="pca"
        Where the map starts. "spectral" is the Laplacian eigenmap of the affinities. "best" starts
        as "pca" does, and has four random starts join the race: in the last stage, or the first of
        more than 20,000 points. Precomputed distances have no components, and start at random
        instead; affinities, as "spectral" does.
    random_state : int, RandomState or None, default=None
        Seed of a random start and of the momentum's jitter. A run with the same seed, data and
        layout gives the same bits on the same kind of machine, on any number of workers.
    optimizer : {"lbfgs", "momentum"}, default="lbfgs"
        "momentum" is the method of 2002: momentum and a jitter that is annealed away.
    annealing : "auto", None or list of float, default="auto"
        Perplexities to pass through before the one asked for, each warm-started. "auto" goes down
        from 3/4 of N where the start is "pca", "random" or "best"; in the last stage the map so
        found races against a plain start, which is not annealed, and a spectral one, all in one
        pass over P, and the lowest goes on; the plain one is the principal components, where X has
        them. It starts at the target, as None does, where the start is an array or
        "spectral", which annealing would undo. More than 20,000 points start at the target, too:
        there the start races against a spectral one where tails are dropped and P is kept. Where
        each step goes over all of P, a stage with tail_mass=0.01 comes before, in which they race,
        if memory or the disk has room for it.
    max_iter : int, default=240
        Iterations of each stage, those of all starts that race counted. With "lbfgs" the stages
        before the last have 120 together. What a stage leaves over, the next one may take.
    tol : float, default=3e-7
        A stage ends when the cost falls by less than this share in five iterations.
    dtype : {"float64", "float32"}, default="float64"
        In which P and S are kept; float32 halves memory and keeps 7 digits of each entry.
    tail_mass : float, default=0
        0 keeps every entry of P. Above 0 each row keeps its largest entries until what it drops
        weighs at most so much, and is normalised again: P becomes sparse, and the cost that of
        this P. `report_` bounds what it does to the gradient.
    p_storage : {"auto", "memory", "zarr", "recompute"}, default="auto"
        Where S = P + P^T is kept between steps; "recompute" keeps O(N) numbers only.
    repulsion : {"auto", "direct", "fourier"}, default="auto"
        "direct" goes over all pairs; "fourier", up to three dimensions, costs O(N) and is what
        "auto" takes there. A map for which all pairs cost less goes over all pairs in any case.
    repulsion_rtol : float, default=1e-8
        With "fourier", the error of a row of the repulsion, relative to
        1 + sum_j (q_{j|i} + q_{i|j}) |y_i - y_j|, and of log Z_i.
    block_rows, shards : int or "auto"
        Rows of a row block, and parts of S, of which a task of a step has one or some.
    memory_limit : int or str, optional
        Bytes, or a text such as "4GB", that all tasks together may use. What is found, by default.
    store : path or URL, optional
        Where the run is kept, as a Zarr group: X, precision, P, checkpoints, embedding, history.
    save : tuple of {"distances", "Q"}
        What the run keeps besides, shape (N, N) each.
    overwrite : bool, default=False
        Whether a run that is at `store` is replaced.
    storage_options : dict, optional
        For a store at a URL.
    checkpoint_seconds : float, default=30
        Between checkpoints of a run that is kept.
    callbacks : callable or list of callables, optional
        Each is called with an `Event` after each iteration; one that returns True ends the run,
        whose result is what it came to. One that raises KeyboardInterrupt leaves a checkpoint.
    verbose : int, default=0
        1 reports progress.

    Attributes
    ----------
    embedding_ : ndarray of shape (N, n_components)
    kl_divergence_ : float
        C = sum_i KL(P_i || Q_i), in nats; over all copies, where points have weights.
    n_iter_ : int
        Iterations over all stages.
    n_features_in_ : int
    history_ : dict of str to ndarray
        A column each: stage, perplexity, cost, gradient_norm, step, evaluations, seconds.
    report_ : dict
        Choices made, bytes needed and found, why the run stopped; the cost per point, and the
        share of the cost of a map with all points in one place that the map explains.

    References
    ----------
    G. E. Hinton and S. T. Roweis, "Stochastic Neighbor Embedding", NIPS 15 (2002).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> import dasksne
    >>> model = dasksne.SNE(perplexity=40)
    >>> model.fit_transform(load_iris().data).shape
    (150, 2)
    >>> round(model.kl_divergence_, 3)
    12.747
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        perplexity: float | None = None,
        sigma: Any = None,
        metric: str = "euclidean",
        pca: int | None = None,
        scale: bool = False,
        init: Any = "pca",
        random_state: Any = None,
        optimizer: str = "lbfgs",
        annealing: Literal["auto"] | Sequence[float] | None = "auto",
        max_iter: int = 240,
        tol: float = 3e-7,
        dtype: str = "float64",
        tail_mass: float = 0.0,
        p_storage: str = "auto",
        repulsion: str = "auto",
        repulsion_rtol: float = 1e-8,
        block_rows: int | Literal["auto"] = "auto",
        shards: int | Literal["auto"] = "auto",
        memory_limit: int | str | None = None,
        store: str | Path | None = None,
        save: Sequence[str] = (),
        overwrite: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        checkpoint_seconds: float = 30,
        callbacks: Callback | Sequence[Callback] | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.perplexity = perplexity
        self.sigma = sigma
        self.metric = metric
        self.pca = pca
        self.scale = scale
        self.init = init
        self.random_state = random_state
        self.optimizer = optimizer
        self.annealing = annealing
        self.max_iter = max_iter
        self.tol = tol
        self.dtype = dtype
        self.tail_mass = tail_mass
        self.p_storage = p_storage
        self.repulsion = repulsion
        self.repulsion_rtol = repulsion_rtol
        self.block_rows = block_rows
        self.shards = shards
        self.memory_limit = memory_limit
        self.store = store
        self.save = save
        self.overwrite = overwrite
        self.storage_options = storage_options
        self.checkpoint_seconds = checkpoint_seconds
        self.callbacks = callbacks
        self.verbose = verbose

    def fit(self, X: Any, y: None = None, sample_weight: Any = None) -> Self:  # noqa: ARG002 - scikit-learn's convention
        """Compute the map of X; see `fit_transform`.

        Examples
        --------
        20,000 points in 216 places cost what 216 do:

        >>> import numpy as np
        >>> import dasksne
        >>> X = np.random.default_rng(0).integers(0, 6, size=(20_000, 3))
        >>> rows, inverse, counts = np.unique(X, axis=0, return_inverse=True, return_counts=True)
        >>> model = dasksne.SNE(perplexity=1_000).fit(rows, sample_weight=counts)
        >>> model.embedding_[inverse].shape
        (20000, 2)
        """
        self._fit(X, sample_weight)
        return self

    def fit_transform(self, X: Any, y: None = None, sample_weight: Any = None) -> Any:  # noqa: ARG002
        """Compute the map of X.

        Parameters
        ----------
        X : array of shape (N, D), or (N, N) where metric is "precomputed" or "affinities"
            A NumPy array or anything that becomes one, a data frame, a sparse array of scipy, which
            becomes dense a few rows at a time (affinities stay sparse, and cost what their entries
            cost), a Dask array or data frame, or a Zarr array.
        y : None
            Not used.
        sample_weight : array of shape (N,), optional
            How often each point counts, 1 or more, not necessarily a whole number: the map is that
            of the data with so many copies of each row, perhaps mirrored, at the cost of the rows
            given. (A random start, which tells copies apart, is that of the rows.) The perplexity
            counts copies too: where a row has more than that, it hardly sees other rows. A point of
            weight 0 has no part in the map, and is placed on it as `transform` does; this needs X
            in memory, and no store. Does not go with `tail_mass`, affinities or "momentum"; and of
            more than 20,000 rows, all start at the target perplexity.

        Returns
        -------
        ndarray of shape (N, n_components), or a Dask array for a Dask collection; what `set_output`
        asks for, with the index of X where that is a data frame

        Raises
        ------
        InvalidInputError
            X or an option is not what SNE can take.
        ResourceError
            The work does not fit; the message has the bytes.
        StoreError
            The store exists already or cannot be written.
        """
        data = self._fit(X, sample_weight)
        if isinstance(data, da.Array) and not isinstance(X, zarr.Array):
            return as_asked(self, X, da.from_array(self.embedding_, chunks=(data.chunks[0], -1)))
        return self.embedding_

    def transform(self, X: Any) -> Any:
        """Place new points on the map, which stays as it is.

        Each row's probabilities p_j over the fitted points have the perplexity, or the one sigma,
        of the fit. The row goes where its own cost sum_j p_j log(p_j / q_j) is least: this is a
        convex problem, so there is one such place. It does not depend on chunks or on the other
        rows. A row that equals a fitted one gets the fitted position; of several equal ones, the
        first's.

        Parameters
        ----------
        X : array of shape (M, D), or (M, N) where metric="precomputed"
            As for `fit_transform`; precomputed distances are those to the N fitted points.

        Returns
        -------
        ndarray of shape (M, n_components), or for a Dask collection a lazy Dask array

        Raises
        ------
        NotFittedError
        InvalidInputError
            X has another number of features or holds NaN; or the model was fitted to affinities, or
            with a sigma for each point, which new points do not have, or to a Dask collection
            without a store, which keeps no data.
        StoreError
            The run of the model is gone, or another one has taken its place.

        Notes
        -----
        New points need the fitted ones. With a store they are read from the run, and a model that
        is pickled is small; else the model refers to the array that it was fitted to.

        No tail of p is dropped here, also with a `tail_mass`. A row whose p has its mean at the
        rim of the map would cost least far outside, or nowhere; beyond 5 units of the map from that
        mean a wall is added to its cost, which keeps it within about 6.

        A task holds the distances of a row block, as in the fit. The time is that of the fit's
        affinities, for M rows instead of N.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> import dasksne
        >>> X = load_iris().data
        >>> model = dasksne.SNE(perplexity=20).fit(X[::2])
        >>> model.transform(X[1::2]).shape
        (75, 2)
        """
        check_is_fitted(self, "embedding_")
        if self._fitted is None:
            raise InvalidInputError(
                "the model was fitted to a Dask collection and has kept none of its data; fit it "
                "with store= a path, where new points find it"
            )
        self._fitted.require_open()
        run = self._fitted.require_kept()
        data = self._data(X, new=True)
        if isinstance(data, da.Array):
            placed = place_later(self._fitted, data)
            return placed.compute() if isinstance(X, zarr.Array) else as_asked(self, X, placed)
        with current_executor() as executor:
            require_seen(executor, run)
            return place_now(executor, self._fitted, data)

    def plan(self, X: Any, sample_weight: Any = None) -> Plan:
        """Return what the map of X would need, before any work; the model stays as it is.

        Where tails are dropped, a few rows of an array, prepared as asked for, tell how much of P
        is left; of a lazy array nothing is computed, and the plan is that of a P with every entry.

        Parameters
        ----------
        X : array of shape (N, D)
        sample_weight : array of shape (N,), optional
            Both as for `fit_transform`.

        Raises
        ------
        InvalidInputError, ResourceError
            As `fit_transform` would, but for values of X that are not read.

        Examples
        --------
        >>> import numpy, dasksne
        >>> plan = dasksne.SNE().plan(numpy.zeros((1000, 50)))
        >>> plan.p_bytes, plan.p_storage
        (8000000, 'memory')
        """
        # What a copy keeps of X is not this model's, nor is the number that a seed takes.
        model = copy(self).set_params(random_state=0)
        settings, data = model._settings(), model._data(X)  # noqa: SLF001
        settings, data, _ = weighted_task(data, settings, sample_weight, self._run())
        settings = planning.settled(settings, data)
        settings.require_fits(*data.shape)
        sparse = is_graph(data, settings.metric)
        with current_executor() as executor:
            return planning.plan_run(
                (data.shape[0], data.shape[1]),
                bytes_of(data),
                settings,
                store=self._run(),
                memory_limit=self._memory_limit(),
                in_memory=not isinstance(data, da.Array) and (executor.shares_memory or sparse),
                sparse=sparse,
                mapped=is_mapped(data),
                shares=planning.shares_of(executor, data, settings),
                executor=executor,
            )

    def _fit(
        self, X: Any, sample_weight: Any, labels: npt.NDArray[np.generic] | None = None
    ) -> Data:
        """Compute the map of X; a run keeps the labels of its points from its beginning."""
        settings, data = self._settings(), self._data(X)
        task = weighted_task(data, settings, sample_weight, self._run())
        result = self._fit_all(task.data, task.settings, labels)
        self._keep(result if task.fitted is None else _with_others(result, data, task.fitted))
        return data

    def _fit_all(
        self, data: Data, settings: Settings, labels: npt.NDArray[np.generic] | None
    ) -> Result:
        settings = planning.settled(settings, data)
        with Reporter(self._callbacks(), verbose=self.verbose) as watcher:
            return launch(
                data,
                settings,
                store=self._run(),
                overwrite=self.overwrite,
                memory_limit=self._memory_limit(),
                watcher=watcher,
                feature_names=getattr(self, "feature_names_in_", None),
                labels=labels,
            )

    def _run(self) -> Run | None:
        return None if self.store is None else Run.locate(self.store, self.storage_options)

    def _memory_limit(self) -> int | None:
        if self.memory_limit is None:
            return None
        try:
            return parse_bytes(self.memory_limit)
        except ValueError as error:
            raise InvalidInputError(
                f"memory_limit={self.memory_limit!r} is no size; give bytes, or a text such as "
                "'4GB'"
            ) from error

    def _keep(self, result: Result) -> None:
        self.embedding_: FloatArray = result.outcome.embedding
        self.kl_divergence_ = result.outcome.cost
        self.n_iter_ = result.outcome.n_iter
        self.history_ = result.outcome.history
        self.report_ = report(result)
        self._fitted = result.fitted
        unreached = result.outcome.unreached
        if unreached:
            warnings.warn(
                f"{unreached} of {result.plan.n_points} rows cannot reach the perplexity "
                f"{result.settings.perplexity:g}: they have more nearest neighbours at the same "
                "distance than that, and share their probability evenly among them",
                stacklevel=3,
            )

    def _settings(self) -> Settings:
        random = check_random_state(self.random_state)
        return Settings(
            n_components=self.n_components,
            perplexity=perplexity_of(self.perplexity, self.sigma, self.metric),
            sigma=number_or_array(self.sigma),
            metric=self.metric,
            pca=self.pca,
            scale=self.scale,
            init=self.init if isinstance(self.init, str) else np.asarray(self.init, dtype=float),
            optimizer=self.optimizer,
            annealing=self.annealing,
            max_iter=self.max_iter,
            tol=self.tol,
            dtype=self.dtype,
            tail_mass=self.tail_mass,
            p_storage=self.p_storage,
            repulsion=self.repulsion,
            repulsion_rtol=self.repulsion_rtol,
            block_rows=self.block_rows,
            shards=self.shards,
            save=(self.save,) if isinstance(self.save, str) else tuple(self.save),
            checkpoint_seconds=self.checkpoint_seconds,
            seed=int(random.randint(np.iinfo(np.int32).max)),
        )

    def _callbacks(self) -> list[Callback]:
        if self.callbacks is None:
            return []
        return [self.callbacks] if callable(self.callbacks) else list(self.callbacks)

    def _data(self, X: Any, *, new: bool = False) -> Data:
        """Return X, or new points, as an array of `Data`; nothing lazy is computed."""
        fewest = 1 if new else 2
        # The names of a data frame's columns are those of the empty one that Dask keeps of it.
        named = X._meta if is_frame(X) else None  # noqa: SLF001
        X = as_collection(X, fewest)
        if isinstance(X, da.Array):
            validate_data(self, X if named is None else named, reset=not new, skip_check_array=True)
        else:
            # NaN and infinity are looked for later, where their rows can be named.
            X = validate_data(
                self,
                X,
                reset=not new,
                accept_sparse="csr",
                dtype="numeric",
                ensure_all_finite=False,
                ensure_min_samples=fewest,
            )
        return require_numbers(X, "euclidean" if new else self.metric)

    @property
    def _n_features_out(self) -> int:
        return int(self.embedding_.shape[1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.metric != "precomputed"
        tags.input_tags.pairwise = self.metric in PAIRWISE
        return tags


def _with_others(result: Result, data: Data, fitted: npt.NDArray[np.bool_]) -> Result:
    """Return a result with the points of no weight on its map too, where `transform` has them."""
    assert result.fitted is not None  # noqa: S101 - the data is in memory
    placing = result.fitted.for_more_points(fitted)
    embedding = np.empty((len(fitted), result.settings.n_components))
    embedding[fitted] = result.outcome.embedding
    with current_executor() as executor:
        embedding[~fitted] = place_now(executor, placing, data[~fitted])
    outcome = result.outcome._replace(embedding=embedding)
    return result._replace(outcome=outcome, fitted=placing)


def resume(
    store: str | Path, *, storage_options: Mapping[str, Any] | None = None, verbose: int = 0
) -> SNE:
    """Go on with a run where it stopped, and return the fitted model.

    A run that is finished is read; nothing is computed again, and its `transform` places new
    points.

    Parameters
    ----------
    store : path or URL
        Of the run.
    storage_options : dict, optional
        For a URL.
    verbose : int, default=0
        1 reports progress.

    Raises
    ------
    StoreError
        There is no run, it had no data yet, what cannot be made again is damaged, or the store
        cannot be read now.
    ResourceError
        The run does not fit in the memory found now; it is kept.
    """
    run = Run.locate(store, storage_options)
    with Reporter([], verbose=verbose) as watcher:
        result = resuming.resume(run, watcher=watcher)
    known = SNE().get_params()
    parameters = {
        field.name: getattr(result.settings, field.name)
        for field in fields(result.settings)
        if field.name in known
    }
    model = SNE(**parameters, store=store, storage_options=storage_options)
    model.n_features_in_ = result.n_features
    if run.state.get("feature_names") is not None:
        model.feature_names_in_ = np.array(run.state["feature_names"], dtype=object)
    model._keep(result)  # noqa: SLF001 - of this module's own class
    return model

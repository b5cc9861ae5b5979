"""The options of a run, checked once, before anything else happens."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np

from dasksne.errors import InvalidInputError
from dasksne.types import FloatArray

DEFAULT_PERPLEXITY = 30.0

CHOICES = {
    "metric": ("euclidean", "cosine", "precomputed", "affinities"),
    "optimizer": ("lbfgs", "momentum"),
    "dtype": ("float64", "float32"),
    "p_storage": ("auto", "memory", "zarr", "recompute"),
    "repulsion": ("auto", "direct", "fourier"),
}
PAIRWISE = ("precomputed", "affinities")
"""Metrics for which X has a number for each pair of points."""
SMALLEST_RTOL = 1e-12
"""Fourier sums in double precision carry about two digits less than their points."""
LARGEST_START = 1e100
SAVES = ("distances", "Q")
ARRAYS = {"init": "start", "sigma": "sigma", "sample_weight": "sample_weight"}
"""Options that may be arrays, and the names that a run keeps them under, beside its attributes."""


@dataclass(frozen=True)
class Settings:
    """The options that a run keeps; names and meanings are those of `dasksne.SNE`."""

    n_components: int
    perplexity: float | None
    sigma: float | FloatArray | None
    metric: str
    pca: int | None
    scale: bool
    init: str | FloatArray
    optimizer: str
    annealing: Literal["auto"] | Sequence[float] | None
    max_iter: int
    tol: float
    dtype: str
    tail_mass: float
    p_storage: str
    repulsion: str
    repulsion_rtol: float
    block_rows: int | Literal["auto"]
    shards: int | Literal["auto"]
    save: tuple[str, ...]
    checkpoint_seconds: float
    seed: int
    sample_weight: FloatArray | None = None
    """How often each point counts, 1 or more; not an option of `dasksne.SNE`, but of its `fit`."""

    def __post_init__(self) -> None:
        self._become_plain()
        for name, known in CHOICES.items():
            _require_known(name, getattr(self, name), known)
        if isinstance(self.init, str):
            _require_known("init", self.init, ("pca", "random", "spectral", "best"))
        for name in self.save:
            _require_known("save", name, SAVES)
        _require_number("n_components", self.n_components, Integral, above=0)
        self._require_preparation()
        _require_number("max_iter", self.max_iter, Integral, above=-1)
        _require_number("tol", self.tol, Real, above=-1e-300)
        self._require_tolerances()
        _require_number("checkpoint_seconds", self.checkpoint_seconds, Real, above=-1e-300)
        for name in ("block_rows", "shards"):
            if getattr(self, name) != "auto":
                _require_number(name, getattr(self, name), Integral, above=0)
        require_width(self.perplexity, self.sigma, self.metric)
        if self.metric == "affinities" and "distances" in self.save:
            raise InvalidInputError("save='distances': affinities say nothing of distances")
        if self.sample_weight is not None:
            self._require_weighable()

    def _require_weighable(self) -> None:
        """Raise InvalidInputError where an option does not go with weights."""
        if self.tail_mass > 0.0:
            raise InvalidInputError(
                f"tail_mass={self.tail_mass:g} does not go with sample_weight, which needs every "
                "entry of P; leave one of the two out"
            )
        if self.metric == "affinities":
            raise InvalidInputError(
                "sample_weight does not go with metric='affinities', which say nothing of what "
                "copies of a point are to each other; give affinities of all points, or features"
            )
        if self.optimizer == "momentum":
            raise InvalidInputError(
                "sample_weight does not go with optimizer='momentum', whose jitter moves copies "
                "apart; use optimizer='lbfgs'"
            )

    def _require_preparation(self) -> None:
        if self.pca is not None:
            _require_number("pca", self.pca, Integral, above=0)
        if not isinstance(self.scale, bool):
            raise InvalidInputError(f"scale={self.scale!r} must be True or False")
        if self.prepares and self.metric in PAIRWISE:
            what = "distances" if self.metric == "precomputed" else "affinities"
            raise InvalidInputError(
                f"metric={self.metric!r} takes {what}, which have no features to prepare; prepare "
                "the data that they come from, and leave out pca and scale"
            )

    def _require_tolerances(self) -> None:
        require_tail_mass(self.tail_mass, self.metric)
        _require_number("repulsion_rtol", self.repulsion_rtol, Real, above=0)
        if not SMALLEST_RTOL <= self.repulsion_rtol < 1:
            raise InvalidInputError(
                f"repulsion_rtol={self.repulsion_rtol:g} cannot be met; it must be between "
                f"{SMALLEST_RTOL:g} and 1, and repulsion='direct' has no such error"
            )

    def _become_plain(self) -> None:
        """Replace what JSON, in which the run keeps its options, does not know."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())
        if not (self.annealing is None or isinstance(self.annealing, str)):
            object.__setattr__(self, "annealing", _perplexities(self.annealing))

    @property
    def races(self) -> bool:
        """Whether random starts race."""
        return isinstance(self.init, str) and self.init == "best"

    @property
    def prepares(self) -> bool:
        """Whether X is scaled or turned into components before it is mapped."""
        return self.scale or self.pca is not None

    def n_mapped(self, n_features: int) -> int:
        """Return the features of prepared data."""
        return n_features if self.pca is None else self.pca

    def n_counted(self, n_points: int) -> float:
        """Return how many points there are, each as often as it counts."""
        return n_points if self.sample_weight is None else float(np.sum(self.sample_weight))

    @property
    def may_drop_tails(self) -> bool:
        """Whether any tail_mass goes with what else is given."""
        return self.metric != "affinities" and self.sample_weight is None

    def require_fits(self, n_points: int, n_features: int) -> None:
        """Raise InvalidInputError where an option does not go with N points of D features."""
        require_reachable(self.perplexity, self.n_counted(n_points))
        require_one_each(self.sigma, n_points)
        if self.pca is not None and self.pca > min(n_points, n_features):
            raise InvalidInputError(
                f"pca={self.pca} must not be above {min(n_points, n_features)}, the smaller of N "
                f"and D: {n_points} points of {n_features} features have no more components"
            )
        shape = (n_points, self.n_components)
        if not isinstance(self.init, str):
            if self.init.shape != shape:
                raise InvalidInputError(
                    f"init has shape {self.init.shape}; it must be (N, n_components) = {shape}"
                )
            if not np.all(np.abs(self.init) <= LARGEST_START):
                raise InvalidInputError(
                    f"init holds NaN, infinity or a value beyond {LARGEST_START:g}, whose square "
                    "is no number to go on with; a map of N points is about sqrt(N) wide"
                )

    @property
    def arrays(self) -> dict[str, FloatArray]:
        """The options that are arrays."""
        given = {name: getattr(self, name) for name in ARRAYS}
        return {name: value for name, value in given.items() if isinstance(value, np.ndarray)}

    def to_json(self) -> dict[str, Any]:
        """Return what the run's attributes keep; arrays are kept beside them."""
        return {**asdict(self), **dict.fromkeys(self.arrays, "array")}

    @classmethod
    def from_json(cls, values: dict[str, Any], arrays: Mapping[str, FloatArray]) -> "Settings":
        """Return the settings that `to_json` gave, from that and the arrays."""
        known = {field.name: values[field.name] for field in fields(cls)}
        known["save"] = tuple(known["save"])
        return cls(**{**known, **arrays})


def perplexity_of(perplexity: Any, sigma: Any, metric: str) -> Any:
    """Return the perplexity: the default where neither it nor anything in its place is given."""
    given = perplexity is not None or sigma is not None or metric == "affinities"
    return perplexity if given else DEFAULT_PERPLEXITY


def require_width(perplexity: Any, sigma: Any, metric: str) -> None:
    """Raise InvalidInputError unless a perplexity or a sigma is given, and is one.

    With affinities neither may be.
    """
    if metric == "affinities":
        for name, value in (("perplexity", perplexity), ("sigma", sigma)):
            if value is not None:
                raise InvalidInputError(
                    f"{name} does not go with metric='affinities': X is P already; leave it out"
                )
        return
    if (perplexity is None) == (sigma is None):
        given = "an array" if isinstance(sigma, np.ndarray) else sigma
        raise InvalidInputError(f"perplexity={perplexity} and sigma={given}: give one of the two")
    if isinstance(sigma, np.ndarray):
        _require_widths(sigma)
    elif sigma is not None:
        _require_number("sigma", sigma, Real, above=0)
    if perplexity is not None:
        _require_number("perplexity", perplexity, Real, above=1)


def number_or_array(sigma: Any) -> Any:
    """Return a sigma for each point, given as any kind of sequence, as an array; else as it is."""
    if sigma is None or np.ndim(sigma) == 0:
        return sigma
    try:
        return np.asarray(sigma, dtype=np.float64)
    except ValueError:
        raise InvalidInputError("sigma must be a number, or an array of numbers") from None


def _require_widths(sigma: FloatArray) -> None:
    """Raise InvalidInputError unless they are widths of points."""
    if sigma.ndim != 1:
        raise InvalidInputError(
            f"sigma has shape {sigma.shape}; it must be a number, or an array of shape (N,) with "
            "one for each point"
        )
    bad = np.flatnonzero(~((sigma > 0.0) & np.isfinite(sigma)))
    if bad.size:
        raise InvalidInputError(
            f"sigma must be a finite number above 0 for each point: sigma[{bad[0]}] = "
            f"{sigma[bad[0]]:g}"
        )


def require_one_each(sigma: float | FloatArray | None, n_points: int) -> None:
    """Raise InvalidInputError where a sigma for each point is not one for each of N."""
    if isinstance(sigma, np.ndarray) and len(sigma) != n_points:
        raise InvalidInputError(
            f"sigma has {len(sigma)} values for {n_points} points; there must be one for each, or "
            "one number for all"
        )


def sigma_of(sigma: float | FloatArray | None, row: int) -> str:
    """Return how a message names the sigma of a point.

    Examples
    --------
    >>> sigma_of(0.5, 3), sigma_of(np.array([1.0, 2.0]), 1)
    ('sigma=0.5', 'sigma[1]=2')
    """
    return f"sigma[{row}]={sigma[row]:g}" if isinstance(sigma, np.ndarray) else f"sigma={sigma}"


def require_reachable(perplexity: float | None, n_points: float) -> None:
    """Raise InvalidInputError where no row of N points has such a perplexity."""
    if perplexity is not None and not perplexity < n_points - 1:
        raise InvalidInputError(
            f"perplexity={perplexity:g} must be below N - 1 = {n_points - 1:.12g}, the number "
            "of neighbours that a point has; lower it"
        )


def require_tail_mass(tail_mass: Any, metric: str) -> None:
    """Raise InvalidInputError unless it is the share of a row that may be dropped.

    Of affinities none is: whoever gives P gives it without what should be dropped.
    """
    _require_number("tail_mass", tail_mass, Real, above=-1e-300)
    if not tail_mass < 1.0:
        raise InvalidInputError(
            f"tail_mass={tail_mass!r} must be 0 or more and below 1: it is the share of "
            "a row of P that may be dropped"
        )
    if tail_mass > 0.0 and metric == "affinities":
        raise InvalidInputError(
            f"tail_mass={tail_mass:g} does not go with metric='affinities', which are used as they "
            "are given; give them without their smallest entries, sparse"
        )


def require_metric(metric: Any) -> None:
    """Raise InvalidInputError unless it is a metric."""
    _require_known("metric", metric, CHOICES["metric"])


def _perplexities(annealing: Any) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in annealing)
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"annealing={annealing!r} is not known; use 'auto', None or a list of perplexities"
        ) from None


def _require_known(name: str, value: object, known: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in known:
        listed = ", ".join(repr(choice) for choice in known)
        raise InvalidInputError(f"{name}={value!r} is not known; use one of {listed}")


def _require_number(name: str, value: Any, kind: type, *, above: float) -> None:
    what = "an integer" if kind is Integral else "a number"
    if isinstance(value, bool) or not isinstance(value, kind):
        raise InvalidInputError(f"{name}={value!r} must be {what}")
    if not (value > above and np.isfinite(value)):  # type: ignore[operator, call-overload]
        least = f"above {above:g}" if above >= 0 else "0 or more"
        raise InvalidInputError(f"{name}={value!r} must be {what} {least}")

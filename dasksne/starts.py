"""Where the map starts."""

from dataclasses import replace

import numpy as np

from dasksne.components import OVERSAMPLING, component_scores, principal_components
from dasksne.executor import Executor
from dasksne.job import RANDOM_RIVALS, Job, is_too_large_to_anneal
from dasksne.objective import SNEObjective
from dasksne.optimise.schedule import spectral_perplexity
from dasksne.optimise.spectral import MAX_PRODUCTS, spectral_start
from dasksne.optimise.state import spread
from dasksne.optimise.symmetry import break_symmetry
from dasksne.settings import Settings
from dasksne.source import Features
from dasksne.stage import calibrate_rows, make_objective
from dasksne.staging import Look
from dasksne.types import FloatArray

RANDOM_SCALE = 1e-2
"""Standard deviation of a random start: within the kernel's width, where forces are smooth."""
SEARCH_SEED = 0
"""Of a search for eigenvectors, whose result has nothing else that is random."""
TOLERANCE = 1e-5
"""Of the components that a map starts from."""
RIVAL_PRODUCTS = 50
"""With S, in the search for a spectral start of many points: there each costs as much as most of an
evaluation. (All of MNIST takes 45.)"""


def first_map(job: Job, look: Look) -> FloatArray:
    """Return the start that the job's settings ask for, finished; `look` is at all of the data."""
    settings = job.settings
    if not isinstance(settings.init, str):
        y: FloatArray = np.array(settings.init, dtype=np.float64)
    elif _is_spectral(settings):
        y = spectral_map(job, 0)
    elif settings.init != "random" and isinstance(job.source, Features):
        y = pca_start(job.executor, job.source, look.mean, settings.n_components, settings.seed)
    else:
        y = random_start(job.plan.n_points, settings.n_components, settings.seed)
    return finished_start(y, settings.seed, job.source.counts)


def plain_rival(job: Job, look: Look, start: FloatArray) -> FloatArray:
    """Return what races against the annealed map without being annealed: its start.

    In place of a random one the principal components, where the data has them, so that all seeds
    come to the same map where annealing leads each to another.
    """
    if is_annealed(job) and job.settings.init == "random":
        settings = replace(job.settings, init="pca")
        return first_map(replace(job, settings=settings), look)
    return start


def rival_maps(job: Job, plain: FloatArray) -> list[FloatArray]:
    """Return what races against the annealed map in the last stage, or the start in its first.

    Annealing leads most data to one good map, whatever the start; the rivals are for the others:
    a plain start, not annealed, for data without clusters to arrange, a spectral start for curved
    sheets, and random ones where init="best". (In nats, annealed, from components and spectral:
    1,000 points of a 100-dimensional Gaussian 3145.0, 3143.0 and 3143.2; an S-shaped sheet 82, 141
    and 24; digits 2567, 2589 and 2601.)
    """
    settings, counts = job.settings, job.source.counts
    annealed = is_annealed(job)
    maps = [plain] if annealed else []
    if annealed or (settings.races and not races_against_spectral(job)):
        spectral = spectral_map(job, len(job.schedule) - 1)
        maps.append(finished_start(spectral, settings.seed, counts))
    if settings.races:
        first = settings.seed + 1
        maps += [
            finished_start(
                random_start(job.plan.n_points, settings.n_components, seed), settings.seed, counts
            )
            for seed in range(first, first + RANDOM_RIVALS)
        ]
    return maps


def is_annealed(job: Job) -> bool:
    """Say whether "auto" anneals the points, so that the start races against its map.

    Momentum is faithful to 2002.
    """
    settings = job.settings
    return (
        len(job.schedule) > 1
        and not is_too_large_to_anneal(settings, job.plan.n_points)
        and settings.annealing == "auto"
        and settings.optimizer == "lbfgs"
    )


def races_against_spectral(job: Job) -> bool:
    """Say whether a spectral start races in the first stage, as there are too many to be annealed.

    It takes dozens of products with S: of one that is sparse, and kept, they cost little.
    """
    plan = job.plan
    large = is_too_large_to_anneal(job.settings, plan.n_points)
    return large and plan.has_cheap_products and not _is_spectral(job.settings)


def _is_spectral(settings: Settings) -> bool:
    """Say whether the start is: affinities have no components."""
    return settings.init == "spectral" or (
        (settings.init, settings.metric) == ("pca", "affinities")
    )


def spectral_rival(job: Job, objective: SNEObjective, start: FloatArray) -> FloatArray:
    """Return the spectral start of the very P that a stage goes on with, finished.

    The search for it begins at another start. (C / N after 60 evaluations: all of MNIST 4.160, from
    components 4.182, and 4.157 and 4.179 after 120; 30,000 points in a tree of 125 clusters after
    240, 2.087 and 2.086.)
    """
    spectral = _eigenmap(job, objective, start, RIVAL_PRODUCTS)
    return finished_start(spectral, job.settings.seed, job.source.counts)


def finished_start(y: FloatArray, seed: int, counts: FloatArray | None = None) -> FloatArray:
    """Return a map centred, and spanning all of its dimensions."""
    return break_symmetry(y - np.average(y, axis=0, weights=counts), seed=seed)


def random_start(n_points: int, n_components: int, seed: int) -> FloatArray:
    """Return normal numbers around the origin, a function of the seed and the shape alone."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    return RANDOM_SCALE * generator.standard_normal((n_points, n_components))


def pca_start(
    executor: Executor, source: Features, mean: FloatArray, n_components: int, seed: int
) -> FloatArray:
    """Return the leading principal components, the first with standard deviation 1.

    Columns beyond the features start at random: points that share a coordinate share it for ever.
    """
    n, n_features = source.x.shape
    count = min(n_features, n_components)
    components = principal_components(
        executor,
        source,
        mean,
        np.ones(n_features),
        count,
        width=min(n_features, n_components + OVERSAMPLING),
        tolerance=TOLERANCE,
    )
    y = component_scores(executor, source, mean, components)
    widest = spread(y[:, :1], source.counts)[0]
    y = y / widest if widest > 0.0 else y
    return np.hstack([y, random_start(n, n_components - count, seed)])


def spectral_map(job: Job, k: int) -> FloatArray:
    """Return the Laplacian eigenmap of the affinities at a lower perplexity, as stage k does."""
    settings = job.settings
    perplexity = np.nan if settings.perplexity is None else spectral_perplexity(settings.perplexity)
    objective = make_objective(job, calibrate_rows(job, perplexity, k, keep=False), k)
    first = random_start(job.plan.n_points, settings.n_components, SEARCH_SEED)
    return _eigenmap(job, objective, first, MAX_PRODUCTS)


def _eigenmap(
    job: Job, objective: SNEObjective, first: FloatArray, max_products: int
) -> FloatArray:
    degrees = objective.degrees

    def product(v: FloatArray) -> FloatArray:
        return np.asarray(degrees[:, np.newaxis] * v - objective.attraction(v))

    return spectral_start(
        product,
        degrees,
        first,
        max_products=max_products,
        counts=job.source.counts,
    )

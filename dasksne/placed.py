"""The start of a large map: sets of landmarks, then the middle set, each mapped before the rest."""

from dataclasses import replace

from dasksne.fit import go_through_stages
from dasksne.job import Job
from dasksne.landmarks import Landmarks, landmark_indices, place_all, select
from dasksne.levels import RTOL, Level, Levels
from dasksne.plan import make_plan
from dasksne.source import Features
from dasksne.staging import Look
from dasksne.starts import finished_start, first_map
from dasksne.types import FloatArray


def placed_start(job: Job, look: Look, levels: Levels) -> FloatArray:
    """Return a map of all points, placed around that of the middle set; see `dasksne.levels`.

    Its iterations join the job's history. Where the watcher stops the run, all points are placed
    around what there is.
    """
    source, executor, seed = job.source, job.executor, job.settings.seed
    assert isinstance(source, Features)  # noqa: S101 - levels are made of features only
    few, many = levels.landmarks, levels.middle
    indices = landmark_indices(source.n_points, many.n_points, seed)
    middle = select(executor, source, indices, job.run, "landmarks/middle")
    starts = []
    for k in range(levels.n_sets):
        among = landmark_indices(many.n_points, few.n_points, seed + 1 + k)
        chosen = select(executor, middle, among, job.run, f"landmarks/set{k}")
        before = k * len(few.schedule)
        level = _job(job, few, chosen, stages_before=before, n_stages=levels.n_stages)
        y = go_through_stages(level, first_map(level, look)).embedding
        if level.stopped:
            job.stopped = True
            landmarks = Landmarks(indices[among], chosen, y)
            return finished_start(_place(level, source, landmarks), seed)
        starts.append(_place(level, middle, Landmarks(among, chosen, y)))
    before = levels.n_stages - len(many.schedule)
    level = _job(job, many, middle, stages_before=before, n_stages=levels.n_stages)
    first, *rivals = (finished_start(y, seed) for y in starts)
    y = go_through_stages(level, first, rivals=rivals).embedding
    job.stopped = level.stopped
    return finished_start(_place(level, source, Landmarks(indices, middle, y)), seed)


def _place(level: Job, source: Features, landmarks: Landmarks) -> FloatArray:
    """Return the map of all points of a source around the landmarks of a level."""

    def blocks_done(done: int, total: int) -> None:
        stage = level.stages_before + len(level.schedule) - 1
        level.watcher.blocks_done("placing points", stage, level.n_stages, done, total)

    perplexity = level.schedule[-1].perplexity
    return place_all(level.executor, source, landmarks, perplexity, blocks_done)


def _job(job: Job, level: Level, source: Features, *, stages_before: int, n_stages: int) -> Job:
    """Return the job of a level: within the memory planned for the whole, and nothing is kept."""
    n, plan = level.n_points, job.plan
    settings = replace(
        job.settings,
        perplexity=level.perplexity,
        repulsion_rtol=max(RTOL, job.settings.repulsion_rtol),
        init="random" if job.settings.init == "random" else "pca",
        save=(),
    )
    return replace(
        job,
        source=source,
        settings=settings,
        plan=make_plan(
            n,
            plan.n_features,
            plan.n_components,
            x_bytes=plan.x_bytes,
            n_threads=plan.n_threads,
            memory_limit=plan.memory_bytes,
            disk_found=0,
            keeps_p=False,
            keeps_x=False,
            kept_share=plan.kept_share,
            anneals=len(level.schedule) > 1,
            dtype=plan.dtype,
            repulsion=plan.repulsion,
            block_rows=plan.block_rows,
        ),
        schedule=level.schedule,
        run=None,
        keeps=False,
        stages_before=stages_before,
        stages_after=n_stages - stages_before - len(level.schedule) + len(job.schedule),
    )

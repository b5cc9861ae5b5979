"""The start of a large map: sets of landmarks, then the middle set, each mapped before the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dasksne.fit import go_through_stages, make_optimiser, recording
from dasksne.job import Job
from dasksne.landmarks import Landmarks, landmark_indices, place_all, select
from dasksne.levels import RTOL, Level, Levels
from dasksne.optimise.race import by_cost
from dasksne.optimise.state import State, step_all
from dasksne.plan import make_plan
from dasksne.source import Features
from dasksne.stage import calibrate_rows, make_objective
from dasksne.staging import Look
from dasksne.starts import finished_start, first_map
from dasksne.types import Evaluation, FloatArray


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
    seeds = range(seed + 1, seed + 1 + levels.n_sets)
    among = [landmark_indices(many.n_points, few.n_points, each) for each in seeds]
    sets = [
        select(executor, middle, chosen, job.run, f"landmarks/set{k}")
        for k, chosen in enumerate(among)
    ]
    jobs = [_job(job, few, each, levels, stages_before=0, n_sets=levels.n_sets) for each in sets]
    level = jobs[0]
    states = _map_side_by_side(jobs, [first_map(each, look) for each in jobs])
    if level.stopped:
        job.stopped = True
        best = min(range(levels.n_sets), key=lambda k: by_cost(states[k]))
        landmarks = Landmarks(indices[among[best]], sets[best], states[best].y)
        return finished_start(_place(level, source, landmarks), seed)
    starts = [
        _place(level, middle, Landmarks(chosen, each, state.y))
        for chosen, each, state in zip(among, sets, states, strict=True)
    ]
    level = _job(job, many, middle, levels, stages_before=len(few.schedule))
    first, *rivals = (finished_start(y, seed) for y in starts)
    y = go_through_stages(level, first, rivals=rivals).embedding
    job.stopped = level.stopped
    return finished_start(_place(level, source, Landmarks(indices, middle, y)), seed)


def _map_side_by_side(jobs: Sequence[Job], starts: Sequence[FloatArray]) -> list[State]:
    """Optimise several sets of points stage by stage, all of them an iteration at a time.

    What one set asks for leaves most cores idle. The watcher and the history see the set that
    leads, with the evaluations of all; the watcher stops all of them.
    """
    maps = list(starts)
    states: list[State] = []
    for k in range(len(jobs[0].schedule)):
        states = _optimise_side_by_side(jobs, k, maps)
        maps = [state.y for state in states]
        if jobs[0].stopped:
            break
    return states


def _optimise_side_by_side(jobs: Sequence[Job], k: int, maps: Sequence[FloatArray]) -> list[State]:
    """Go through stage k of several sets."""
    first = jobs[0]
    perplexity, tol, max_iter = first.schedule[k]
    objectives = [
        make_objective(job, calibrate_rows(job, perplexity, k, keep=False), k) for job in jobs
    ]
    optimisers = [
        make_optimiser(job, k, objective, max_iter=max_iter // len(jobs), tol=tol)
        for job, objective in zip(jobs, objectives, strict=True)
    ]

    def evaluate_all(maps: Mapping[int, FloatArray]) -> list[Evaluation]:
        started = [objectives[number].start([y]) for number, y in maps.items()]
        return [finish()[0] for finish in started]

    evaluations = evaluate_all(dict(enumerate(maps)))
    states = [
        optimiser.start(y, evaluation)
        for optimiser, y, evaluation in zip(optimisers, maps, evaluations, strict=True)
    ]
    with (
        first.executor.stage(f"iterations of stage {first.stages_before + k + 1}"),
        recording(first, k, states) as record,
    ):
        while any(state.stopped is None for state in states) and not first.stopped:
            states = step_all(optimisers, states, evaluate_all)
            record(states)
    return states


def _place(level: Job, source: Features, landmarks: Landmarks) -> FloatArray:
    """Return the map of all points of a source around the landmarks of a level."""

    def blocks_done(done: int, total: int) -> None:
        stage = level.stages_before + len(level.schedule) - 1
        level.watcher.blocks_done("placing points", stage, level.n_stages, done, total)

    perplexity = level.schedule[-1].perplexity
    return place_all(level.executor, source, landmarks, perplexity, blocks_done)


def _job(
    job: Job, level: Level, source: Features, levels: Levels, *, stages_before: int, n_sets: int = 1
) -> Job:
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
            n_sets=n_sets,
            dtype=plan.dtype,
            repulsion=plan.repulsion,
            block_rows=plan.block_rows,
        ),
        schedule=level.schedule,
        run=None,
        keeps=False,
        stages_before=stages_before,
        stages_after=levels.n_stages - stages_before - len(level.schedule) + len(job.schedule),
    )

"""What is written while a run goes on: to a terminal, to a log, and by callbacks."""

import io
import math

import numpy as np
import pytest

import dasksne
from dasksne import progress
from dasksne.job import Event
from dasksne.progress import Reporter, format_seconds


class Clock:
    """A time that goes on when it is told to."""

    now = 100.0

    def monotonic(self):
        return self.now


class Stream(io.StringIO):
    """A standard error that is a terminal or is not."""

    def __init__(self, *, terminal):
        super().__init__()
        self.isatty = lambda: terminal


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def stream(monkeypatch, *, terminal):
    stream = Stream(terminal=terminal)
    monkeypatch.setattr("sys.stderr", stream)
    return stream


def event(iteration, *, stage=0, perplexity=30.0, max_iter=100):
    return Event(
        stage=stage,
        n_stages=2,
        perplexity=perplexity,
        iteration=iteration,
        max_iter=max_iter,
        cost=12.5,
        gradient_norm=1.0,
        step=0.1,
        evaluations=2 * iteration,
        seconds=0.0,
        embedding=np.zeros((3, 2)),
    )


@pytest.mark.parametrize(
    ("wish", "stops"), [(True, True), (np.True_, True), (False, False), (None, False), (1, False)]
)
def test_a_callback_that_returns_true_stops(wish, stops):
    with Reporter([lambda _: None, lambda _: wish], verbose=0) as reporter:
        assert reporter.step_done(event(1)) is stops


def test_a_log_gets_lines_some_seconds_apart_and_the_last_one(monkeypatch, clock):
    log = stream(monkeypatch, terminal=False)
    with Reporter([], verbose=1) as reporter:
        for iteration in range(1, 13):
            reporter.step_done(event(iteration))
            clock.now += 1.0
    lines = log.getvalue().splitlines()
    assert [line.split("iteration ")[1].split(",")[0] for line in lines] == ["1", "6", "11", "12"]
    assert lines[0] == "stage 1/2: perplexity 30, iteration 1, cost 12.5, gradient 1"
    assert "\r" not in log.getvalue()


def test_a_notebook_gets_one_line_that_is_rewritten_and_ended(monkeypatch, clock):
    notebook = stream(monkeypatch, terminal=False)
    monkeypatch.setattr(Stream, "__module__", "ipykernel.iostream")
    with Reporter([], verbose=1) as reporter:
        for iteration in (9, 10, 11):
            reporter.step_done(event(iteration))
            clock.now += 0.6
        reporter.blocks_done("affinities", 1, 2, 1, 8)
    text = notebook.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    _, first, second, last = text.removesuffix("\n").split("\r")
    assert "iteration 9, cost 12.5, gradient 1" in first
    assert "iteration 11, cost 12.5, gradient 1, at most " in second
    assert last.rstrip() == "stage 2/2: affinities, 1 of 8 row blocks"
    assert len(last) == len(second)


def test_a_terminal_gets_one_line_that_is_rewritten_and_ended(monkeypatch, clock):
    terminal = stream(monkeypatch, terminal=True)
    monkeypatch.setenv("COLUMNS", "40")
    with Reporter([], verbose=1) as reporter:
        for iteration in (1, 2, 3):
            reporter.step_done(event(iteration))
            clock.now += 1.0
    text = terminal.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    lines = text.removesuffix("\n").split(progress.CLEAR_LINE)[1:]
    assert len(lines) == 4
    assert all(len(line) < 40 for line in lines)


def test_the_line_is_ended_when_the_run_fails(monkeypatch, clock):
    del clock
    terminal = stream(monkeypatch, terminal=True)
    reporter = Reporter([lambda _: 1 / 0], verbose=1)
    with pytest.raises(ZeroDivisionError), reporter:
        reporter.step_done(event(1))
    assert terminal.getvalue().endswith("\n")


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_written_unless_asked(monkeypatch, terminal):
    silent = stream(monkeypatch, terminal=terminal)
    with Reporter([], verbose=0) as reporter:
        reporter.blocks_done("affinities", 0, 1, 1, 1)
        reporter.step_done(event(1))
    assert not silent.getvalue()


def test_time_left_goes_by_the_pace_of_the_stage(monkeypatch, clock):
    log = stream(monkeypatch, terminal=False)
    with Reporter([], verbose=1) as reporter:
        # A run that goes on at iteration 50: the first 49 took no time of this process.
        reporter.step_done(event(50))
        clock.now += 20.0
        reporter.step_done(event(60))
        clock.now += 600.0
        reporter.step_done(event(1, stage=1))
        clock.now += 6.0
        reporter.step_done(event(2, stage=1))
    lines = log.getvalue().splitlines()
    assert "left" not in lines[0]
    assert lines[1].endswith("at most 1.3 min left in this stage")  # 40 iterations of 2 s
    assert "left" not in lines[2]
    assert lines[3].endswith("at most 9.8 min left in this stage")  # 98 of 6 s


def test_row_blocks_have_their_own_pace(monkeypatch, clock):
    log = stream(monkeypatch, terminal=False)
    with Reporter([], verbose=1) as reporter:
        reporter.blocks_done("affinities", 0, 3, 0, 8)
        clock.now += 10.0
        reporter.blocks_done("affinities", 0, 3, 2, 8)
    assert log.getvalue().splitlines()[1] == (
        "stage 1/3: affinities, 2 of 8 row blocks, at most 30 s left in this stage"
    )


def test_what_comes_before_the_stages_is_told_at_once(monkeypatch, clock, tmp_path, rng):
    del clock
    log = stream(monkeypatch, terminal=False)
    X = rng.normal(size=(30, 4))
    model = dasksne.SNE(pca=2, perplexity=5, store=tmp_path / "r.zarr", max_iter=1, verbose=1)
    model.fit(X)
    before = [line for line in log.getvalue().splitlines() if not line.startswith("stage")]
    assert before == ["preparing X", "storing X", "looking at X"]


def test_a_given_sigma_has_no_perplexity(monkeypatch):
    log = stream(monkeypatch, terminal=False)
    with Reporter([], verbose=1) as reporter:
        reporter.step_done(event(1, perplexity=math.nan))
    assert "perplexity" not in log.getvalue()


def test_each_callback_sees_each_iteration_and_one_may_stop_the_run():
    seen = []
    reporter = Reporter([seen.append, lambda e: e.iteration == 2], verbose=0)
    assert reporter.step_done(event(1)) is False
    assert reporter.step_done(event(2)) is True
    assert [e.iteration for e in seen] == [1, 2]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 ms"),
        (0.5, "500 ms"),
        (9.94, "9.9 s"),
        (59, "59 s"),
        (3600, "1.0 h"),
        (1e6, "12 days"),
    ],
)
def test_durations_are_written_as_people_read_them(seconds, text):
    assert format_seconds(seconds) == text

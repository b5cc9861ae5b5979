import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import numpy as np
import pytest
from dask.system import CPU_COUNT
from threadpoolctl import threadpool_info, threadpool_limits

from dasksne.errors import InvalidInputError, ResourceError
from dasksne.executor import current_executor
from dasksne.executor.blas import one_blas_thread
from dasksne.executor.memory import available_memory
from dasksne.executor.patience import is_stuck
from dasksne.executor.threads import ThreadExecutor


def blas_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(params=["threads", "sync"])
def executor(request):
    with ThreadExecutor(3, synchronous=request.param == "sync") as executor:
        yield executor


# Threads


def test_results_come_in_the_order_of_the_items(executor):
    def late(item, base):
        time.sleep(0.02 * (3 - item))
        return base + item

    handles = executor.map(late, range(4), 10)
    assert [executor.result(handle) for handle in handles] == [10, 11, 12, 13]


def test_handles_are_items_and_arguments(executor):
    ones = executor.map(lambda item: item, [1, 2, 3])
    shared = executor.broadcast(100)
    handles = executor.map(lambda item, a, b: item + a + b, ones, shared, ones[2])
    for handle in handles:
        executor.wait(handle)
    assert [executor.result(handle) for handle in handles] == [104, 105, 106]


def test_results_are_reduced_in_the_order_of_their_handles(executor):
    def late(item):
        time.sleep(0.02 * (2 - item))
        return item

    whole = executor.reduce(list, executor.map(late, range(3)))
    assert executor.result(whole) == [0, 1, 2]


def test_all_results_come_at_once_in_the_order_of_the_items(executor):
    ones = executor.map(lambda item: item, [1, 2, 3])
    together = executor.map_all(lambda item, base: base + item, ones, 10, quick=True)
    assert executor.result(together) == [11, 12, 13]


def test_work_aside_is_a_task_like_others(executor):
    (here,) = executor.map(lambda _: threading.current_thread().name.split("_")[0], [0])
    aside = executor.aside(lambda: threading.current_thread().name.split("_")[0])
    assert executor.result(aside) == executor.result(here)


def test_a_collection_is_computed_by_its_threads(executor):
    """And by no others, which would go on after its end."""
    (here,) = executor.map(lambda _: threading.current_thread().name.split("_")[0], [0])
    names = da.zeros(6, chunks=2).map_blocks(
        lambda _: np.array([threading.current_thread().name.split("_")[0]] * 2), dtype=str
    )
    assert set(executor.compute(names)) == {executor.result(here)}


def test_an_error_of_a_task_is_raised_where_it_is_waited_for(executor):
    def fail(item):
        raise ZeroDivisionError(item)

    (handle,) = executor.map(fail, ["why"])
    for ask in (executor.wait, executor.result):
        with pytest.raises(ZeroDivisionError, match="why"):
            ask(handle)


@pytest.mark.parametrize("error", [MemoryError, ResourceError])
def test_a_task_that_finds_too_little_memory_is_named(executor, error):
    def grow(rows):
        raise error(*["of its own"] * (rows.start == 7))

    handles = executor.map(grow, [slice(3, 7), slice(7, 9)])
    said = ["grow of rows 3 to 7 found no memory in a process that held .* MiB$", ": of its own$"]
    if error is ResourceError:
        said = ["^$", "^of its own$"]
    for handle, each in zip(handles, said, strict=True):
        with pytest.raises(ResourceError, match=each):
            executor.result(handle)


def test_it_knows_what_it_has(executor):
    assert executor.shares_memory
    assert 0 < executor.memory_found() <= available_memory() * 1.1
    assert executor.blind_workers("/nowhere") == []


def test_threads_run_side_by_side():
    meet = threading.Barrier(3, timeout=5)
    with ThreadExecutor(3) as executor:
        handles = executor.map(lambda _: meet.wait() >= 0, range(3))
        assert all(executor.result(handle) for handle in handles)


def test_synchronous_work_stays_on_this_thread():
    with ThreadExecutor(8, synchronous=True) as executor:
        assert executor.n_threads == 1
        (handle,) = executor.map(lambda _: threading.get_ident(), [None])
        assert executor.result(handle) == threading.get_ident()


def test_work_that_has_not_begun_is_cancelled_at_the_end():
    done = []
    with ThreadExecutor(1) as executor:
        executor.map(lambda item: (time.sleep(0.05), done.append(item)), range(100))
    assert len(done) <= 2


# BLAS


def test_blas_has_one_thread_while_tasks_run():
    before = blas_threads()
    with ThreadExecutor(2) as executor:
        (handle,) = executor.map(lambda _: blas_threads(), [None])
        assert executor.result(handle) == {1}
    assert blas_threads() == before


def test_blas_has_one_thread_whichever_thread_set_a_limit_before():
    """As that one of a cluster's worker which compared the kernels' bits, and waits for more."""

    def held():
        with one_blas_thread():
            return blas_threads()

    before = blas_threads()
    with ThreadPoolExecutor(1) as another:
        for _ in range(2):
            assert held() == {1}
            assert another.submit(held).result() == {1}
    assert blas_threads() == before


def test_another_thread_may_limit_blas_afterwards():
    def limited():
        with threadpool_limits(1, user_api="blas"):
            return blas_threads()

    with one_blas_thread():
        pass
    with ThreadPoolExecutor(1) as another:
        assert another.submit(limited).result() == {1}


def test_the_last_of_several_holders_gives_the_threads_back():
    before = blas_threads()
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert blas_threads() == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == before


# Which one


@pytest.mark.parametrize("name", ["sync", "synchronous", "single-threaded"])
def test_the_synchronous_scheduler(name):
    with dask.config.set(scheduler=name):
        assert current_executor().n_threads == 1


@pytest.mark.parametrize("name", [None, "threads", "threading"])
def test_the_threaded_scheduler(name):
    with dask.config.set(scheduler=name):
        assert current_executor().n_threads == CPU_COUNT
    with dask.config.set(scheduler=name, num_workers=5):
        assert current_executor().n_threads == 5


@pytest.mark.parametrize("scheduler", ["processes", lambda *_args, **_options: None])
def test_a_scheduler_that_cannot_run_it_is_refused(scheduler):
    with (
        dask.config.set(scheduler=scheduler),
        pytest.raises(InvalidInputError, match="use 'threads', 'synchronous' or a distributed"),
    ):
        current_executor()


def test_distributed_without_a_client_falls_back_to_threads():
    with dask.config.set(scheduler="distributed"):
        assert current_executor().shares_memory


# Workers


@pytest.mark.parametrize(
    ("status", "executing", "stuck"),
    [("paused", 0, True), ("paused", 1, False), ("running", 0, False)],
)
def test_a_paused_worker_that_still_works_is_not_stuck(status, executing, stuck):
    counts = {"executing": executing} if executing else {}
    assert is_stuck({"status": status, "metrics": {"task_counts": counts}}) == stuck

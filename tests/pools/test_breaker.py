"""What counts against a pool, and what its breaker makes of it, on a clock of its own."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from conformance import until
from tasks import die, square

import dspex as dx
from dspex import errors
from dspex.errors import CircuitOpenError, PoolError, WorkerCrashedError, WorkerMemoryError
from dspex.pools.breaker import PoolBreaker, outcome_of
from dspex.pools.shipping import RemoteTraceback
from dspex.pools.task import Task, TaskFuture
from dspex.reliability import Breaker, BreakerSettings

TIMEOUT_S = 30
OWN = {"WorkerStartError", "WorkerCrashedError", "ClusterError"}


@pytest.fixture
def guarded(clock):
    """Make a breaker of a pool, with what it publishes."""

    def make(**settings):
        told = []
        breaker = Breaker(
            "pool 'p'", BreakerSettings(jitter=0, **settings), clock=clock, rng=random.Random(0)
        )
        return PoolBreaker("p", breaker, told.append), told

    return make


def ended(breaker, error=None):
    """Admit a task that ends like that."""
    task = Task(None, None, TaskFuture())
    breaker.admit(task)
    if error is None:
        task.future.set_result(None)
    else:
        task.future.set_exception(error)


def test_what_is_the_pools_own_fault():
    """Of all that a pool says, lost workers, workers that cannot start and a broken cluster count."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, PoolError)]
    outcomes = {each.__name__: outcome_of(each("why")) for each in kinds}
    assert {name for name, outcome in outcomes.items() if outcome == "failure"} == OWN
    assert {name for name, outcome in outcomes.items() if outcome == "success"} == set()


@pytest.mark.parametrize("kind", [ValueError, MemoryError, WorkerCrashedError, SystemExit])
def test_what_a_function_raises_shows_that_its_worker_is_well(kind):
    """An exception that was raised in a worker is an answer, whatever its class."""
    error = kind("mine")
    error.__cause__ = RemoteTraceback("where")
    assert outcome_of(error) == "success"


def test_half_of_the_last_twenty(guarded):
    """Failures that are not in a row count by their share, and those long past no more."""
    breaker, _ = guarded()
    for _ in range(20):
        ended(breaker)
    for _ in range(9):
        ended(breaker, WorkerCrashedError("died"))
        ended(breaker)
    assert str(breaker) == "closed"
    ended(breaker, WorkerCrashedError("died"))
    assert str(breaker) == "open for 5.0 s: 10 of the last 20 calls failed; the last: died"


def test_one_probe_at_a_time_until_one_goes_well(guarded, clock):
    """Each failed probe doubles the wait; one that was cancelled leaves its place to the next."""
    breaker, told = guarded()
    for _ in range(3):
        ended(breaker, WorkerCrashedError("died"))
    clock.now = 5.0
    ended(breaker, WorkerCrashedError("died again"))
    assert str(breaker) == "open for 10.0 s: a probe failed; the last: died again"
    clock.now = 15.0
    probe = Task(None, None, TaskFuture())
    breaker.admit(probe)
    with pytest.raises(CircuitOpenError, match="is being probed"):
        ended(breaker)
    assert str(breaker) == "half-open: the cool-down is over; the last: died again"
    assert probe.future.cancel()
    ended(breaker)
    assert str(breaker) == "closed"
    assert breaker.refused == 1
    assert [(each.pool, each.after, each.open_s) for each in told] == [
        ("p", "open", 5.0),
        ("p", "half-open", 0.0),
        ("p", "open", 10.0),
        ("p", "half-open", 0.0),
        ("p", "closed", 0.0),
    ]


def test_what_was_taken_on_before_does_not_close_it(guarded, clock):
    """A task of before the breaker opened is late with its good news: only the probe's count."""
    breaker, _ = guarded()
    early = [Task(None, None, TaskFuture()) for _ in range(2)]
    for each in early:
        breaker.admit(each)
    for _ in range(3):
        ended(breaker, WorkerCrashedError("died"))
    early[0].future.set_result(None)
    assert str(breaker).startswith("open")
    clock.now = 5.0
    breaker.admit(Task(None, None, TaskFuture()))
    early[1].future.set_exception(WorkerCrashedError("died"))
    assert str(breaker).startswith("half-open")


def test_tasks_that_want_too_much_memory_break_nothing(guarded):
    """What a task wants is its own affair: the next one may want less."""
    breaker, _ = guarded()
    for _ in range(20):
        ended(breaker, WorkerMemoryError("full"))
    assert str(breaker) == "closed"


def test_one_item_too_large_costs_its_neighbours_nothing(make_pool):
    """A list that wanted too much memory is tried in parts, however often that happens to one part or another."""
    pool = make_pool(workers=1, memory_mib=512)
    sizes = pool.batched(held, max_batch=64)
    wants = [1] * 37 + [600] + [1] * 26
    with ThreadPoolExecutor() as threads:
        running = threads.submit(sizes, 1)
        futures = [sizes.submit(each) for each in wants]
        assert running.result(TIMEOUT_S) == 1
    assert [each for each, future in zip(wants, futures, strict=True) if future.exception(TIMEOUT_S)] == [600]
    assert pool.stats().breaker == "closed"


def held(mebibytes):
    return [len(bytes(each << 20)) >> 20 for each in mebibytes]


def test_tasks_that_crawl_open_it_where_that_is_asked_for(guarded):
    """With `slow_call_s`, tasks that go well and take longer count as slow."""
    breaker, _ = guarded(slow_call_s=10.0)
    for _ in range(5):
        task = Task(None, None, TaskFuture())
        breaker.admit(task)
        task.started_at = task.submitted_at - 60
        task.future.set_result(None)
    assert "5 of the last 5 calls took over 10 s" in str(breaker)


def test_the_breaker_hears_before_the_caller(guarded):
    """Who sees a task's end finds the breaker as that end has left it."""
    breaker, _ = guarded(consecutive=1)
    task, seen = Task(None, None, TaskFuture()), []
    task.future.add_done_callback(lambda _: seen.append(str(breaker)[:4]))
    breaker.admit(task)
    task.future.set_exception(WorkerCrashedError("died"))
    assert seen == ["open"]


def test_a_map_gives_what_it_has_before_it_is_refused(make_pool, clock):
    """Results come in their order: those that were there, the failure itself, and only then a refusal."""
    pool = make_pool(workers=1, queue_limit=4)
    given = pool.map(either, [2, None, None, None, 3, 4], idempotent=False)
    until(lambda: pool.stats().breaker.startswith("open"))
    assert next(given) == 4
    with pytest.raises(WorkerCrashedError):
        next(given)


def either(x):
    return die("SIGKILL") if x is None else square(x)


def test_an_adapter_on_a_broken_pool_says_so_at_once(make_pool):
    """A module that shall run where workers keep dying is refused, with the pool and when to come back."""
    pool = make_pool(workers=1)
    for _ in range(3):
        with pytest.raises(WorkerCrashedError):
            pool.submit(die, "SIGKILL", idempotent=False).result(TIMEOUT_S)
    adapter = dx.adapters.bridged("Predict", dx.sandbox.lm("small"), pool=pool)
    with pytest.raises(CircuitOpenError, match=r"is not asked for \d\.\d s: 3 failures in a row"):
        adapter.generate(dx.signature("question -> answer"), question="?")


def test_threads_do_not_break(make_pool):
    """A pool of threads has no breaker: whatever is raised in it, it goes on."""
    pool = make_pool(workers=1, profile="thread")
    for _ in range(5):
        with pytest.raises(WorkerCrashedError):
            pool.submit(crash).result(TIMEOUT_S)
    assert pool.submit(square, 3).result(TIMEOUT_S) == 9


def crash():
    raise WorkerCrashedError("as it were")

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dspex.errors import TimedOutError, UnavailableError
from dspex.reliability.single_flight import SingleFlight


class Work:
    """Work that waits until it is let go."""

    def __init__(self, error=None):
        self.calls = 0
        self.begun, self.go = threading.Event(), threading.Event()
        self.error = error

    def __call__(self):
        self.calls += 1
        self.begun.set()
        assert self.go.wait(10)
        if self.error is not None:
            raise self.error
        return self.calls


def until(holds):
    tick = threading.Event()
    for _ in range(2_000):
        if holds():
            return
        tick.wait(0.005)
    raise AssertionError("it never came to hold")


def test_threads_share_one_execution():
    """Twenty threads that ask for the same at the same time get one answer that was made once."""
    flights, work = SingleFlight(), Work()
    with ThreadPoolExecutor(20) as threads:
        asked = [threads.submit(flights.do, "key", work) for _ in range(20)]
        until(lambda: flights._flights and flights._flights["key"].waiting == 20)
        work.go.set()
        assert {each.result(10) for each in asked} == {1}
    assert len(flights) == 0
    assert flights.do("key", work) == 2


def test_other_keys_do_not_wait():
    """Only equal requests are shared."""
    flights = SingleFlight()
    assert flights.do("a", lambda: flights.do("b", lambda: "inner")) == "inner"


def test_errors_are_shared():
    """What fails for one fails for all who waited, and is asked anew afterwards."""
    flights, work = SingleFlight(), Work(UnavailableError("down"))
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(flights.do, "key", work) for _ in range(3)]
        until(lambda: flights._flights and flights._flights["key"].waiting == 3)
        work.go.set()
        assert [type(each.exception(10)) for each in asked] == [UnavailableError] * 3
    assert work.calls == 1
    assert flights.do("key", lambda: "well") == "well"


def test_an_interrupted_thread_hands_over():
    """When the thread that works is interrupted, one who waited does the work instead."""
    flights, work = SingleFlight(), Work(KeyboardInterrupt())
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(flights.do, "key", work)
        assert work.begun.wait(10)
        second = threads.submit(flights.do, "key", lambda: "anew")
        until(lambda: flights._flights["key"].waiting == 2)
        work.go.set()
        assert second.result(10) == "anew"
        assert isinstance(first.exception(10), KeyboardInterrupt)


def test_who_waits_too_long_leaves_alone():
    """A waiter's timeout is its own; the work goes on."""
    flights, work = SingleFlight(), Work()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(flights.do, "key", work)
        assert work.begun.wait(10)
        with pytest.raises(TimedOutError, match=r"not answered within 0.01 s"):
            flights.do("key", work, timeout_s=0.01)
        work.go.set()
        assert first.result(10) == 1


def test_the_works_own_timeout_is_its_own():
    """A TimeoutError that the work raised is not taken for a waiter's."""
    flights, work = SingleFlight(), Work(TimeoutError("inner"))
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(flights.do, "key", work)
        assert work.begun.wait(10)
        second = threads.submit(flights.do, "key", work, timeout_s=10)
        until(lambda: flights._flights["key"].waiting == 2)
        work.go.set()
        assert [str(each.exception(10)) for each in (first, second)] == ["inner", "inner"]


def test_a_cancelled_task_leaves_alone():
    """Whichever of the tasks is cancelled, the first included, the others get the answer."""

    async def run(cancelled):
        flights, go, calls = SingleFlight(), asyncio.Event(), []

        async def work():
            calls.append(1)
            await go.wait()
            return "done"

        tasks = [asyncio.create_task(flights.ado("key", work)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks[cancelled].cancel()
        await asyncio.sleep(0)
        go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return len(calls), [isinstance(each, asyncio.CancelledError) or each for each in results]

    for cancelled in range(3):
        expected = ["done"] * 3
        expected[cancelled] = True
        assert asyncio.run(run(cancelled)) == (1, expected)


def test_work_that_nobody_waits_for_is_cancelled():
    """When every task is cancelled, so is the work, and who comes later starts anew."""

    async def run():
        flights, ended = SingleFlight(), asyncio.Event()

        async def work():
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async def quick():
            return "anew"

        tasks = [asyncio.create_task(flights.ado("key", work)) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        again = await flights.ado("key", quick)
        await asyncio.wait_for(ended.wait(), 10)
        return again, len(flights)

    assert asyncio.run(run()) == ("anew", 0)


def test_a_task_joins_a_thread():
    """Threads and tasks share one execution, and its errors."""

    async def run(flights):
        async def never():
            raise AssertionError("the thread does it")

        return await flights.ado("key", never)

    flights, work = SingleFlight(), Work()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(flights.do, "key", work)
        assert work.begun.wait(10)
        second = threads.submit(asyncio.run, run(flights))
        until(lambda: flights._flights["key"].waiting == 2)
        work.go.set()
        assert (first.result(10), second.result(10)) == (1, 1)


def test_a_tasks_error_reaches_every_task():
    """An awaited failure is shared as well."""

    async def run():
        flights = SingleFlight()

        async def work():
            await asyncio.sleep(0)
            raise UnavailableError("down")

        return await asyncio.gather(*(flights.ado("key", work) for _ in range(3)), return_exceptions=True)

    assert [type(each) for each in asyncio.run(run())] == [UnavailableError] * 3

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dspex.errors import DefinitionError, OverloadedError, RateLimitedError, TimedOutError
from dspex.reliability.deadline import within
from dspex.reliability.limits import AdaptiveLimit, BackoffWindow, Bulkhead, queue_size


def until(holds):
    tick = threading.Event()
    for _ in range(2_000):
        if holds():
            return
        tick.wait(0.005)
    raise AssertionError("it never came to hold")


def test_a_flood_is_served_in_turn():
    """A hundred threads at ten slots all get through, ten at a time, and the rest wait for them."""
    bulkhead, lock, now, worst = Bulkhead("p", slots=10, waiting=100), threading.Lock(), [0], [0]
    hold = threading.Event()

    def call():
        with bulkhead.slot():
            with lock:
                now[0] += 1
                worst[0] = max(worst[0], now[0])
            assert hold.wait(10)
            with lock:
                now[0] -= 1
        return True

    with ThreadPoolExecutor(100) as threads:
        calls = [threads.submit(call) for _ in range(100)]
        until(lambda: bulkhead.waiting == 90)
        hold.set()
        assert all(each.result(10) for each in calls)
    assert (worst[0], bulkhead.deepest) == (10, 90)
    assert repr(bulkhead) == "<Bulkhead p: 0 of 10 slots taken, 0 waiting>"


def test_threads_and_tasks_share_the_slots():
    """A task waits for a slot that a thread holds."""
    bulkhead, held, go = Bulkhead("p", slots=1), threading.Event(), threading.Event()

    def hold():
        with bulkhead.slot():
            held.set()
            assert go.wait(10)

    async def call():
        async with bulkhead.aslot():
            return bulkhead.waiting

    with ThreadPoolExecutor(2) as threads:
        threads.submit(hold)
        assert held.wait(10)
        task = threads.submit(asyncio.run, call())
        until(lambda: bulkhead.waiting == 1)
        go.set()
        assert task.result(10) == 0


def test_first_come_first_served():
    """Slots go to who has waited longest."""

    async def run():
        bulkhead, order = Bulkhead("p", slots=1), []

        async def call(n):
            async with bulkhead.aslot():
                order.append(n)
                await asyncio.sleep(0)

        await asyncio.gather(*(call(n) for n in range(20)))
        return order

    assert asyncio.run(run()) == list(range(20))


def test_a_full_queue_refuses_with_the_wait(clock):
    """Who would not be served in time is told at once, and when to come back."""

    async def run():
        bulkhead, release = Bulkhead("openai", slots=2, waiting=3, clock=clock), asyncio.Event()
        async with bulkhead.aslot():
            clock.now += 4.0

        async def call():
            async with bulkhead.aslot():
                await release.wait()

        calls = [asyncio.create_task(call()) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as caught:
            await call()
        release.set()
        await asyncio.gather(*calls)
        return caught.value

    error = asyncio.run(run())
    assert error.message == "openai is overloaded: 3 are waiting for 2 slots, about 8.0 s"
    assert error.retry_after_s == 8.0
    assert "ask again in 8.0 s" in error.hint


@pytest.mark.parametrize(
    ("deadline_s", "slots", "service_s", "size"),
    [(1.0, 20, 0.05, 200), (1.0, 1, 10.0, 1), (float("inf"), 10, 1.0, 300), (10.0, 4, 2.0, 10)],
)
def test_the_queue_is_sized_by_what_is_served_in_time(deadline_s, slots, service_s, size):
    """Half of the deadline may be spent waiting; without one a minute is taken."""
    assert queue_size(deadline_s=deadline_s, slots=slots, service_s=service_s) == size


def test_the_callers_deadline_bounds_its_queue(clock):
    """With two seconds left and a second a call, one may wait for the only slot, and no second."""

    async def run():
        bulkhead, release = Bulkhead("p", slots=1, clock=clock), asyncio.Event()
        async with bulkhead.aslot():
            clock.now += 1.0

        async def call():
            with within(2, clock=clock):
                async with bulkhead.aslot():
                    await release.wait()

        calls = [asyncio.create_task(call()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await call()
        release.set()
        await asyncio.gather(*calls)

    asyncio.run(run())


def test_waiting_ends_with_the_deadline():
    """Who waits past its deadline leaves the queue, in a thread and in a task; nothing was billed."""

    async def wait(bulkhead):
        with within(0.01):
            async with bulkhead.aslot():
                raise AssertionError("there is no slot")

    bulkhead = Bulkhead("p", slots=1)
    with bulkhead.slot():
        with pytest.raises(TimedOutError, match="no slot of p") as caught, within(0.01), bulkhead.slot():
            pass
        assert not caught.value.possibly_billed
        with pytest.raises(TimedOutError):
            asyncio.run(wait(bulkhead))
        assert bulkhead.waiting == 0
    assert repr(bulkhead) == "<Bulkhead p: 0 of 1 slots taken, 0 waiting>"


def test_a_cancelled_waiter_loses_no_slot():
    """A task that is cancelled while it waits, or just when its slot came, hands the slot on."""

    async def run(*, after_grant):
        bulkhead, release = Bulkhead("p", slots=1), asyncio.Event()

        async def call():
            async with bulkhead.aslot():
                await release.wait()

        first, second, third = (asyncio.create_task(call()) for _ in range(3))
        await asyncio.sleep(0)
        release.set()
        if after_grant:
            await asyncio.sleep(0)
        second.cancel()
        results = await asyncio.gather(first, second, third, return_exceptions=True)
        return [type(each) for each in results], repr(bulkhead)

    for after_grant in (False, True):
        results, shown = asyncio.run(run(after_grant=after_grant))
        assert results == [type(None), asyncio.CancelledError, type(None)]
        assert shown == "<Bulkhead p: 0 of 1 slots taken, 0 waiting>"


def test_a_sick_one_does_not_stall_the_others():
    """While every slot of one bulkhead hangs, calls through another go on."""
    sick, well, go = Bulkhead("sick", slots=2, waiting=0), Bulkhead("well", slots=2), threading.Event()

    def hang():
        with sick.slot():
            assert go.wait(10)

    with ThreadPoolExecutor(2) as threads:
        for _ in range(2):
            threads.submit(hang)
        until(lambda: "2 of 2" in repr(sick))
        with pytest.raises(OverloadedError), sick.slot():
            pass
        for _ in range(20):
            with well.slot():
                assert "1 of 2" in repr(well)
        go.set()


def test_an_adaptive_limit_halves_and_creeps_back(clock):
    """A burst of 429s halves it once; each round of successes allows one more."""
    limit = AdaptiveLimit(16, clock=clock)
    for _ in range(5):
        limit.on_rate_limited()
    assert limit.slots == 8
    clock.now = 1.0
    limit.on_rate_limited()
    assert limit.slots == 4
    for _ in range(5):
        limit.on_success()
    assert limit.slots == 5
    for _ in range(300):
        limit.on_success()
    assert limit.slots == 16
    for second in range(2, 12):
        clock.now = float(second)
        limit.on_rate_limited()
    assert limit.slots == 1


def test_a_bulkhead_follows_its_limit(clock):
    """With half of the slots gone, freed ones are not given out again until there is room."""

    async def run():
        limit = AdaptiveLimit(4, clock=clock)
        bulkhead, release, running, worst = Bulkhead("p", slots=limit), asyncio.Event(), [0], [0]

        async def call():
            async with bulkhead.aslot():
                running[0] += 1
                worst[0] = max(worst[0], running[0])
                await release.wait()
                await asyncio.sleep(0)
                running[0] -= 1

        first = [asyncio.create_task(call()) for _ in range(4)]
        await asyncio.sleep(0)
        limit.on_rate_limited()
        rest = [asyncio.create_task(call()) for _ in range(6)]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*first)
        worst[0] = 0
        await asyncio.gather(*rest)
        return worst[0], bulkhead.slots

    assert asyncio.run(run()) == (2, 2)


def test_a_backoff_window_is_shared_and_never_shortened(clock):
    """Everybody waits as long as the longest wait that was asked for."""
    window = BackoffWindow("openai", clock=clock)
    window.check()
    window.extend(5)
    window.extend(1)
    with pytest.raises(RateLimitedError) as caught:
        window.check()
    assert caught.value.retry_after_s == 5.0
    clock.now = 5.0
    window.check()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bulkhead("p", slots=0),
        lambda: Bulkhead("p", slots=1, waiting=-1),
        lambda: AdaptiveLimit(0),
        lambda: AdaptiveLimit(2, least=3),
    ],
)
def test_impossible_limits_are_refused(make):
    """Bounds are checked where they are set."""
    with pytest.raises(DefinitionError, match="got"):
        make()

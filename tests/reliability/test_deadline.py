import asyncio
import contextvars
import math
import threading

import pytest

from dspex.errors import DefinitionError, TimedOutError
from dspex.reliability import deadline
from dspex.reliability.deadline import attempt_timeout_s, remaining_s, within


def test_an_inner_deadline_never_gives_more(clock):
    """What is inside has at most what is left outside, and the outer one is there again afterwards."""
    with within(10, clock=clock):
        clock.now = 4.0
        with within(100, clock=clock):
            assert remaining_s() == 6.0
        with within(1, clock=clock):
            assert remaining_s() == 1.0
        with within(None):
            assert remaining_s() == 6.0
        clock.now = 99.0
        assert remaining_s() == 0.0
    assert remaining_s() == math.inf


def test_a_passed_deadline_says_so(clock):
    """The error names how long there was; nothing was asked, so nothing was billed."""
    deadline.check()
    with within(2.5, clock=clock):
        deadline.check()
        clock.now = 2.5
        with pytest.raises(TimedOutError, match=r"the deadline of 2.5 s has passed") as caught:
            deadline.check()
    assert not caught.value.possibly_billed


@pytest.mark.parametrize("seconds", [-1, math.nan])
def test_impossible_deadlines_are_refused(seconds):
    """A deadline in the past, or nowhere, is a mistake."""
    with pytest.raises(DefinitionError, match="0 or more seconds"), within(seconds):
        pass


def test_tasks_and_copied_contexts_see_it(clock):
    """A deadline reaches the tasks made under it, and threads that are given the context; no others."""
    seen = {}

    async def note(name):
        seen[name] = remaining_s()

    async def run():
        with within(3, clock=clock):
            task = asyncio.create_task(note("inside"))
        await task
        await note("outside")

    asyncio.run(run())
    with within(5, clock=clock):
        context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(lambda: seen.update(thread=remaining_s()),))
    thread.start()
    thread.join()
    assert seen == {"inside": 3.0, "outside": math.inf, "thread": 5.0}


def test_seconds_travel_not_moments(clock):
    """A worker whose clock shows another time opens the same deadline from the seconds that are left."""
    with within(10, clock=clock):
        clock.now = 3.0
        handed_over = remaining_s()
    with within(handed_over, clock=lambda: 1e6):
        assert remaining_s() == 7.0


@pytest.mark.parametrize(
    ("p95_s", "remaining", "attempts_left", "expected"),
    [
        (1.0, 20, 2, 3.0),
        (0.01, 20, 2, 2.0),
        (50, 20, 2, 10.0),
        (50, 20, 1, 20.0),
        (1.0, 1.0, 2, 0.5),
        (1.0, math.inf, 3, 3.0),
        (1.0, 0.0, 0, 0.0),
    ],
)
def test_attempts_keep_time_for_the_next(p95_s, remaining, attempts_left, expected):
    """An attempt gets thrice the predicted time, two seconds at least, and never more than its share."""
    assert attempt_timeout_s(p95_s, remaining_s=remaining, attempts_left=attempts_left) == expected

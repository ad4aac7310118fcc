"""Asking again through `execute`, over a real socket: as late as the provider wishes, and never past the deadline."""

from __future__ import annotations

import re
import time

import dspy
import pytest

import dspex as dx
from dspex import session
from dspex.errors import DspexError, RateLimitedError, TimedOutError, UnavailableError
from dspex.events import AttemptFailed

TRIAGE = dx.sandbox.task("triage")
SIGNATURE = dx.signature(TRIAGE.signature, TRIAGE.instructions, name="Triage")
NAME = "openai/sandbox/small"


@pytest.fixture(scope="module")
def server():
    with dx.sandbox.serve() as running:
        yield running


@pytest.fixture
def configure(server):
    def made(*faults, **reliability):
        server.set_faults(list(faults))
        runtime = session.configure(
            [dspy.LM(NAME, api_base=server.url, api_key="none", cache=False)],
            modules=["Predict"],
            store="memory",
            cache=False,
            prices={NAME: dx.Price(1.0, 1.0)},
            reliability=dx.Reliability(**reliability),
        )
        runtime.slept = []

        def sleep(seconds):
            runtime.slept.append(seconds)
            time.sleep(seconds)

        runtime.protection.guards.sleep = sleep
        return runtime

    yield made
    session.current().close()


def asked(server, before):
    return len(server.calls) - before


def test_a_provider_that_names_a_wait_is_left_alone_so_long(configure, server):
    """The wait of its 429, and a little more at random; then it answers, and its breaker has not moved."""
    runtime, before = (
        configure({"kind": "rate_limit", "calls": [0, 1], "retry_after_s": 1.0}),
        len(server.calls),
    )
    failed = []
    runtime.events.subscribe(lambda event: failed.append(event) if isinstance(event, AttemptFailed) else None)
    result = dx.execute(SIGNATURE, message=TRIAGE.dev[0].message)
    assert result.label
    assert asked(server, before) == 2
    (slept,) = runtime.slept
    assert 1.0 <= slept <= 1.2
    assert "asked again after RateLimitedError" in next(s.detail for s in result.trace if s.kind == "monitor")
    assert [each.possibly_billed for each in failed] == [False]
    assert "0 of the last" in repr(runtime.protection.guards.find(NAME).breaker)


def test_a_wait_that_does_not_fit_is_not_begun(configure, server):
    """Without another model the error says so; nobody slept past the deadline, and nobody asked again."""
    runtime, before = configure({"kind": "rate_limit", "retry_after_s": 60.0}), len(server.calls)
    with pytest.raises(DspexError, match="RateLimitedError") as caught:
        dx.execute(SIGNATURE, message=TRIAGE.dev[0].message, timeout_s=2.0)
    assert sum(runtime.slept) <= 2.0
    assert asked(server, before) == 1
    assert caught.value.hint


@pytest.mark.parametrize(("given", "least", "most"), [({}, 2.0, 6.0), ({"timeout_s": 2.0}, 0.0, 2.0)])
def test_the_sessions_deadline_holds_unless_the_call_has_its_own(configure, server, given, least, most):
    """A provider that hangs is given up when the time is up; whose time it was is in the message."""
    configure({"kind": "hang"}, timeout_s=6.0)
    before = len(server.calls)
    with pytest.raises(TimedOutError, match="did not answer within the") as caught:
        dx.execute(SIGNATURE, message=TRIAGE.dev[0].message, **given)
    (had,) = re.findall(r"within the (\d\.\d) s that the attempt had", str(caught.value))
    assert least < float(had) <= most
    assert "timeout_s" in caught.value.hint
    assert asked(server, before) == 1


@pytest.mark.parametrize(("attempts", "expected"), [(1, 1), (3, 3)])
def test_a_provider_that_is_down_is_asked_as_often_as_was_said(configure, server, attempts, expected):
    """Each wait lies within its bound, which doubles; then the last error is raised."""
    runtime, before = configure({"kind": "server_error"}, attempts=attempts), len(server.calls)
    with pytest.raises(DspexError) as caught:
        dx.execute(SIGNATURE, message=TRIAGE.dev[0].message)
    assert isinstance(caught.value.failures[0], UnavailableError)
    assert asked(server, before) == expected
    assert all(slept <= bound for slept, bound in zip(runtime.slept, (0.2, 0.4), strict=False))
    assert len(runtime.slept) == expected - 1


def test_everybody_with_the_same_key_waits(configure, server):
    """A 429 to one caller keeps the next one away, too; with no deadline it is told how long."""
    configure({"kind": "rate_limit", "retry_after_s": 60.0}, attempts=1)
    before = len(server.calls)
    for _ in range(2):
        with pytest.raises(DspexError) as caught:
            dx.execute(SIGNATURE, message=TRIAGE.dev[0].message)
        assert isinstance(caught.value.failures[0], RateLimitedError)
    assert asked(server, before) == 1
    assert 50 < caught.value.failures[0].retry_after_s <= 60

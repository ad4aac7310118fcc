import contextlib
import contextvars
import copy
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest

from dspex.bridge import lm as bridge
from dspex.bridge import prices
from dspex.bridge.observe import Meter, Stopped, add_simulated_latency, metered
from dspex.records import Completion, Price, Usage

TEXT = "[[ ## answer ## ]]\nhi\n\n[[ ## completed ## ]]"


class Fake:
    """Answers at once, and pretends to have taken its time."""

    def __init__(self, latency_s=0.5):
        self.latency_s = latency_s

    def answer(self, prompt):
        return Completion(TEXT, Usage(1, 100, 10, 0.0, self.latency_s))

    def state(self):
        return {}


@pytest.fixture
def lm(monkeypatch):
    monkeypatch.setattr(prices, "_declared", {})
    return bridge.from_answerer("fake/one", Fake(), Price(10, 100))


@pytest.fixture
def program():
    return dspy.Predict("question -> answer")


def run_all(programs, lm, stop):
    """Run programs until `stop` ends it, and return the meter."""
    with dspy.context(lm=lm), metered(stop) as meter:
        try:
            for number, each in enumerate(programs):
                each(question=str(number))
        except Stopped:
            return meter
    pytest.fail("nothing was stopped")


def usage_of(n):
    return Usage(n, 100 * n, 10 * n, pytest.approx(0.002 * n), pytest.approx(0.5 * n))


def test_calls_are_counted(lm, program):
    """Calls, tokens, cost from the price and pretended seconds add up; what is outside does not count."""
    with dspy.context(lm=lm):
        program(question="before")
        with metered() as meter:
            assert meter.usage.calls == 0
            program(question="one")
            program(question="two")
        program(question="after")
    assert meter.usage == usage_of(2)


def test_nothing_used_takes_only_time():
    """Without a call to a model, the clock is all that counts."""
    with metered() as meter:
        began = time.perf_counter()
        while time.perf_counter() == began:
            pass
    assert meter.usage.latency_s > 0
    assert meter.usage.calls == 0


def test_dspys_worker_threads_are_counted(lm, program):
    """Calls that DSPy makes on threads of its own count too."""
    with dspy.context(lm=lm), metered() as meter:
        pairs = [(program, dspy.Example(question=str(n)).with_inputs("question")) for n in range(20)]
        results = dspy.Parallel(num_threads=4, disable_progress_bar=True)(pairs)
    assert [result.answer for result in results] == ["hi"] * 20
    assert meter.usage == usage_of(20)


def test_threads_with_the_callers_context_are_counted(lm, program):
    """A plain thread that runs within a copy of the context counts on the same meter."""
    with dspy.context(lm=lm), metered() as meter, ThreadPoolExecutor(4) as pool:
        futures = [
            pool.submit(contextvars.copy_context().run, lambda n=n: program(question=str(n)))
            for n in range(20)
        ]
        assert {future.result(30).answer for future in futures} == {"hi"}
    assert meter.usage == usage_of(20)


def test_runs_side_by_side_are_kept_apart(lm, program):
    """Two metered runs on two threads each count their own calls."""
    barrier, usages = threading.Barrier(2), {}

    def run(n):
        with dspy.context(lm=lm), metered() as meter:
            barrier.wait(30)
            for number in range(n):
                program(question=str(number))
        usages[n] = meter.usage

    threads = [threading.Thread(target=run, args=(n,)) for n in (3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert usages == {3: usage_of(3), 7: usage_of(7)}


def test_cache_hits_cost_nothing(lm, program):
    """An answer out of DSPy's cache was not paid for."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    try:
        cached = bridge.from_answerer("fake/one", Fake(), Price(10, 100), cache=True)
        with dspy.context(lm=cached), metered() as meter:
            program(question="the same")
            program(question="the same")
    finally:
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    assert meter.usage.calls == 1


@pytest.mark.parametrize("after", [1, 3])
def test_stop_ends_the_run(lm, program, after):
    """`stop` is asked around each call; when it says yes, the run ends, and what it used is known."""
    finished = []

    def counted(question):
        finished.append(program(question=question))

    meter = run_all([counted] * 10, lm, lambda: len(finished) >= after)
    assert len(finished) == after
    assert meter.usage == usage_of(after)


def test_a_run_that_is_to_stop_makes_no_call(lm, program):
    """What was cancelled before it began costs nothing."""
    assert run_all([program], lm, lambda: True).usage.calls == 0


def test_stop_passes_through_a_program_that_catches_everything(lm):
    """A program that swallows every exception cannot swallow this one."""

    class Stubborn(dspy.Module):
        def __init__(self):
            super().__init__()
            self.ask = dspy.Predict("question -> answer")

        def forward(self, question):
            for _ in range(10):
                with contextlib.suppress(Exception):
                    self.ask(question=question)
            return dspy.Prediction(answer="done")

    asked = []
    assert run_all([Stubborn()], lm, lambda: len(asked) >= 1 or asked.append(1)).usage.calls == 1


def test_stop_passes_through_dspys_worker_threads(lm, program):
    """Stopping ends a run that has spread over DSPy's own threads, soon after the call that met it."""
    pairs = [(program, dspy.Example(question=str(n)).with_inputs("question")) for n in range(200)]
    parallel = dspy.Parallel(num_threads=2, disable_progress_bar=True)
    before = set(threading.enumerate())
    asked = []
    meter = run_all([lambda question: parallel(pairs)], lm, lambda: len(asked) >= 2 or asked.append(1))
    for thread in set(threading.enumerate()) - before:
        thread.join(30)  # calls under way end by themselves
    assert 1 <= meter.usage.calls < 20


def test_pretended_seconds_replace_the_clock():
    """Once a model has pretended to take time, the clock's own is not added."""
    with metered() as meter:
        add_simulated_latency(1.5)
        add_simulated_latency(0.25)
    assert meter.usage.latency_s == 1.75


def test_pretended_seconds_without_a_meter_are_forgotten():
    """Nobody measuring is no error."""
    add_simulated_latency(1.0)


def test_copies_of_a_meter_are_itself():
    """DSPy copies its tracker for every worker thread; the meter answers with itself."""
    meter = Meter()
    assert copy.deepcopy(meter) is meter
    assert copy.deepcopy({"tracker": meter})["tracker"] is meter


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, (3, 4)),
        ({"input_tokens": 3, "output_tokens": 4}, (3, 4)),
        ({"prompt_tokens": None, "completion_tokens": None}, (0, 0)),
        ({}, (0, 0)),
    ],
)
def test_every_providers_words_for_tokens(entry, expected, lm):
    """Providers name their counts in two ways, or not at all."""
    meter = Meter()
    meter.add_usage("fake/one", entry)
    assert (meter.usage.calls, meter.usage.tokens_in, meter.usage.tokens_out) == (1, *expected)

import dspy
import pytest
from dspy.utils.exceptions import LMError, LMRateLimitError

from dspex import sandbox
from dspex.errors import DefinitionError, RateLimitedError, UnavailableError
from dspex.records import Prompt

PROMPT = Prompt("sandbox/small", "", (("user", "Hello"),))


def outcomes(faults, calls, seed=0):
    model = sandbox.SimulatedModel("small", seed=seed, faults=faults)
    return [outcome(model) for _ in range(calls)]


def outcome(model):
    try:
        return model.answer(PROMPT).usage.latency_s
    except (RateLimitedError, UnavailableError) as error:
        return type(error).__name__


def test_outage_window_hits_exactly_its_calls():
    """Calls inside the window fail, and no other."""
    found = outcomes(sandbox.Faults(outage=(2, 5)), 8)
    assert [name == "UnavailableError" for name in found] == [
        False,
        False,
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_shares_are_kept_and_repeatable():
    """About the asked share of calls fails, and the same ones every time."""
    faults = sandbox.Faults(rate_limit=0.2, outage=0.1)
    first = outcomes(faults, 1000)
    assert first == outcomes(faults, 1000)
    assert first != outcomes(faults, 1000, seed=1)
    assert 140 < first.count("RateLimitedError") < 220
    assert 70 < first.count("UnavailableError") < 130


def test_slow_answers_take_their_factor_longer():
    """A slow share of 1 multiplies every latency."""
    slow, usual = outcomes(sandbox.Faults(slow=(1.0, 10.0)), 3), outcomes(None, 3)
    assert slow == [pytest.approx(10 * latency) for latency in usual]


def test_rate_limit_says_when_to_come_back():
    """The error carries retry_after_s, and reaches DSPy as its own."""
    faults = sandbox.Faults(rate_limit=1.0, retry_after_s=7.0)
    with pytest.raises(RateLimitedError) as caught:
        sandbox.SimulatedModel("small", faults=faults).answer(PROMPT)
    assert caught.value.retry_after_s == 7.0
    with pytest.raises(LMRateLimitError):
        sandbox.lm("small", faults=faults, num_retries=0)("Hello")


def test_outage_reaches_dspy_as_its_own_error():
    """A model that is down is an LMError to DSPy."""
    with pytest.raises(LMError):
        sandbox.lm("small", faults=sandbox.Faults(outage=1.0), num_retries=0)("Hello")


def test_truth_is_measured_without_faults(program_of):
    """expected_score is about answers, not about whether there are any."""
    task = sandbox.task("triage")
    with dspy.context(lm=sandbox.lm("small", faults=sandbox.Faults(outage=1.0))):
        assert sandbox.expected_score(program_of(task), task.dev[:5]) > 0


@pytest.mark.parametrize(
    "options", [{"rate_limit": 1.5}, {"outage": -0.1}, {"outage": (5, 2)}, {"slow": (2.0, 1.0)}]
)
def test_impossible_faults_are_refused(options):
    """Shares outside 0 to 1 and windows that end early are definition errors."""
    with pytest.raises(DefinitionError):
        sandbox.Faults(**options)

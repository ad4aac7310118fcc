"""What is told of failures: each once, in a line or two, and of which kind they were."""

from __future__ import annotations

import pickle

import pytest

from dspex.errors import AuthenticationError, ExhaustedError, UnavailableError
from dspex.orchestrator import falling_back, telling
from dspex.records import Decision, Outcome, Requirements, Strategy, Usage

ASKED = Requirements("QA", "5ig", 12, 1, False, "low")
LONG = "UnavailableError: {model} is not available: no route to the host that its address names, after {s} s"


def failed(model, error, **more):
    return Decision(Strategy(model, "Predict"), "policy", 1.0, ""), Outcome(None, Usage(), error, **more)


def hung(model, s=1.5):
    return failed(model, LONG.format(model=model, s=s))


def test_what_comes_again_is_counted():
    """The seconds of an attempt do not make it another failure, a status does."""
    told = telling.failures([hung("p/a", 1.5), hung("p/a", 0.7), hung("p/a", 0.2)], None)
    assert told == f"p/a · Predict (3 times): {LONG.format(model='p/a', s=1.5)}"
    both = telling.failures([failed("p/a", "refused (401)"), failed("p/a", "refused (403)")], None)
    assert both == "p/a · Predict: refused (401); p/a · Predict: refused (403)"


def test_what_others_met_too_is_said_once():
    """If it is long; the name by which the provider calls its model does not make it another failure."""
    assert telling.failures([hung("p/a"), hung("p/b")], None).endswith("; p/b · Predict: the same")
    named = [
        failed(f"p/{name}", f"the model `{name}` is not here, " + "alas " * 20) for name in ("one", "two")
    ]
    assert telling.failures(named, None).endswith("; p/two · Predict: the same")
    assert telling.failures([hung("p/a", 1), hung("p/b", 2)], None).count("no route") == 2


def test_only_some_are_written_out():
    """Four different failures, and how many more."""
    told = telling.failures([failed(f"p/{number}", f"broken {'x' * number}") for number in range(7)], None)
    assert told.count("broken") == 4
    assert told.endswith("; and 3 more")


REFUSED = {"failure": AuthenticationError("no", hint="set the key")}
DOWN = {"failure": UnavailableError("no")}
UNREAD = {"hint": "try again"}


@pytest.mark.parametrize(
    ("met", "kind", "hint"),
    [
        ([REFUSED, REFUSED], ("authentication", "critical"), "set the key"),
        ([UNREAD, UNREAD], ("response", "error"), "try again"),
        ([REFUSED, UNREAD], ("execution", "error"), "set the key; try again"),
        ([REFUSED, DOWN], ("execution", "error"), "set the key"),
        ([{}], ("execution", "error"), "dspex.history() keeps each attempt"),
    ],
)
def test_an_error_is_about_what_all_attempts_met(met, kind, hint):
    """Where they met different things it is about the call; each next step is named once."""
    error = falling_back.nobody_answered(ASKED, [failed("p/a", "no", **each) for each in met])
    assert isinstance(error, ExhaustedError)
    assert (error.category, error.severity) == kind
    assert error.hint.startswith(hint)
    assert pickle.loads(pickle.dumps(error)).category == kind[0]  # noqa: S301  # our own bytes

"""What users see when a provider goes wrong, over a real socket: who, what, and what to do, and never a key."""

from __future__ import annotations

import json
import logging
import sqlite3

import dspy
import pytest

import dspex as dx
from dspex import redact, session
from dspex.errors import (
    AuthenticationError,
    BadResponseError,
    ContextWindowExceededError,
    ExecutionError,
    ExhaustedError,
    ModelNotFoundError,
    RequestRefusedError,
    SchemaRefusedError,
    TimedOutError,
    UnavailableError,
)
from dspex.events import AttemptFailed
from dspex.notebook.display import decision_html, runtime_html

TRIAGE = dx.sandbox.task("triage")
SIGNATURE = dx.signature(TRIAGE.signature, TRIAGE.instructions, name="Triage")
MESSAGE = TRIAGE.dev[0].message
PLANTED = "zebra-crossing-0815"
"""A key of no telling shape."""
NAME = "openai/sandbox/small"
_OPEN_SCHEMA = {"name": "x", "strict": True, "schema": {"type": "object"}}
ONCE = dx.Reliability(attempts=1)


@pytest.fixture(scope="module")
def server():
    with dx.sandbox.serve(api_key="the-right-key") as running:
        yield running


@pytest.fixture
def ask(server):
    def asked(*, model=NAME, message=MESSAGE, timeout_s=None, faults=None, **settings):
        server.set_faults(faults)
        given = {"api_base": server.url, "api_key": "the-right-key", "cache": False, **settings}
        session.configure(
            [dspy.LM(model, **given)],
            modules=["Predict"],
            adapters="bridged",
            store="memory",
            prices={model: dx.Price(1.0, 1.0)},
            reliability=ONCE,
        )
        return dx.execute(SIGNATURE, message=message, timeout_s=timeout_s)

    yield asked
    session.current().close()


def test_a_provider_that_is_well_answers(ask):
    """The loopback server is asked as any OpenAI-compatible one is."""
    assert ask().label in {"billing", "refund", "shipping", "technical", "account", "escalation"}


@pytest.mark.parametrize(
    ("trouble", "kind", "said", "next_step"),
    [
        ({"api_key": "a-wrong-key"}, AuthenticationError, "does not take the key", "OPENAI_API_KEY"),
        ({"api_base": "http://127.0.0.1:9/v1"}, UnavailableError, "failed to connect", "check the address"),
        ({"path": "/nowhere"}, RequestRefusedError, "cannot be asked at this address", "ends in /v1"),
        ({"model": "openai/sandbox/giant"}, ModelNotFoundError, "has no such model", "provider's list"),
        ({"message": MESSAGE * 2_000}, ContextWindowExceededError, "longer prompt than it can", "shorten"),
        ({"faults": [{"kind": "bad_utf8"}]}, BadResponseError, "sent what cannot be read", "try again"),
        ({"faults": [{"kind": "malformed"}]}, BadResponseError, "is not JSON", "api_base leads to the API"),
        ({"faults": [{"kind": "cut"}]}, UnavailableError, "is not available", "add another provider"),
        ({"faults": [{"kind": "proxy_page"}]}, UnavailableError, "is not available", "try again later"),
        (
            {"response_format": {"type": "json_schema", "json_schema": _OPEN_SCHEMA}},
            SchemaRefusedError,
            "does not take the JSON schema",
            "ask for the chat format",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_each_trouble_names_who_what_and_the_next_step(ask, server, trouble, kind, said, next_step):
    """Within a screen, and as one of our errors."""
    trouble = dict(trouble)
    path = trouble.pop("path", None)
    if path is not None:
        trouble["api_base"] = server.url.replace("/v1", path)
    with pytest.raises(ExhaustedError) as caught:
        ask(**trouble)
    text = str(caught.value)
    assert isinstance(caught.value.failures[0], kind)
    assert said in text
    assert trouble.get("model", NAME) in text
    assert next_step in text.partition("→")[2]
    assert len(text) < 1_000


@pytest.mark.parametrize("kind", ["hang", "endless"])
def test_an_answer_that_never_ends_is_given_up(ask, kind):
    """At the deadline the call returns, names the model, and says how to give it more time."""
    with pytest.raises(TimedOutError, match=rf"{NAME} did not answer within the 0\.\d s") as caught:
        ask(faults=[{"kind": kind}], timeout_s=0.5)
    assert "timeout_s" in str(caught.value)


def test_a_provider_that_hangs_once_is_answered_for_by_another(server):
    """The reason is the timeout, within the deadline one success is recorded, and the late attempt is marked."""
    told = []
    with dx.sandbox.serve(faults=[{"kind": "hang"}]) as hanging:
        models = [
            dspy.LM("openai/sandbox/small", api_base=hanging.url, api_key="none", cache=False),
            dspy.LM("openai/sandbox/large", api_base=server.url, api_key="the-right-key", cache=False),
        ]
        server.set_faults(None)
        runtime = session.configure(
            models,
            modules=["Predict"],
            store="memory",
            prices={model.model: dx.Price(1.0, 1.0) for model in models},
            exploration=0.0,
            reliability=dx.Reliability(shortest_attempt_s=0.5),
            objective=dx.Objective(quality=0.0, speed=0.0, cheapness=1.0),
        )
        runtime.events.subscribe(
            lambda event: told.append(event) if isinstance(event, AttemptFailed) else None
        )
        reasons = set()
        for number in range(6):  # whichever is chosen first, the one that hangs will have been
            result = dx.execute(SIGNATURE, message=f"{MESSAGE} {number}", timeout_s=3)
            assert result.decision.strategy.model == "openai/sandbox/large"
            reasons.add(result.fallback_reason)
            if result.fallback_reason is not None:
                break
        runtime.close()
    assert "timeout" in reasons
    assert (told[0].model, told[0].possibly_billed) == ("openai/sandbox/small", True)
    assert len(told) == 1


def test_ten_megabytes_are_read_or_refused(ask):
    """An answer of 10 MB ends as an answer or as an error of ours, within a screen."""
    try:
        result = ask(faults=[{"kind": "huge"}])
    except ExhaustedError as error:
        assert len(str(error)) < 1_000  # noqa: PT017  # either end is right
    else:
        assert result.label


# ── the planted key ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def forgotten(monkeypatch):
    """Secrets declared here are not secrets of other tests."""
    monkeypatch.setattr(redact, "_declared", set())


def _complaining(event):
    raise ValueError(f"a subscriber met {PLANTED}")


def _how_it_failed(study):
    with pytest.raises(ExecutionError, match="does not take the key") as refused:
        study.wait()
    return [str(refused.value), redact.redacted_traceback(refused.value)]


def _saved_with(lm, study, path):
    program = study.program
    program.set_lm(lm)
    program.save(str(path))


@pytest.mark.usefixtures("forgotten")
def test_a_planted_key_is_found_nowhere(server, tmp_path, caplog, capsys):
    """Not in errors and their causes, logs, reprs, events, tables, pages, studies, saved programs or the store's file."""
    caplog.set_level(logging.DEBUG, logger="dspex")
    store = tmp_path / "runs.db"
    seen: list[str] = []
    server.set_faults([{"kind": "server_error", "calls": [0, 2]}])
    lm = dspy.LM(NAME, api_base=server.url, api_key=PLANTED, cache=False)
    runtime = session.configure([lm], modules=["Predict"], store=str(store), reliability=ONCE, cache=True)
    runtime.events.subscribe(lambda event: seen.append(repr(event)))

    met = []

    def leaky(example, prediction):
        met.append(prediction)
        if len(met) > 1:  # the first is made up, to see whether it can be scored at all
            raise ValueError(f"the metric met {PLANTED}")
        return 1.0

    with pytest.raises(ExhaustedError) as caught:
        dx.execute(SIGNATURE, message=MESSAGE)
    error: BaseException | None = caught.value
    seen += [redact.redacted_traceback(caught.value), "".join(caught.value._render_traceback_())]
    while error is not None:
        seen += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    logging.getLogger("dspex").warning("a key: %s", PLANTED)
    unsubscribe = runtime.events.subscribe(_complaining)
    with pytest.raises(ExhaustedError):
        dx.execute(SIGNATURE, message="another")
    unsubscribe()

    space = dx.Space(model=dx.Model(["sandbox/small"]), temperature=dx.Float(0, 1, default=0.5))
    study = dx.optimize(
        SIGNATURE, space=space, trainset=TRIAGE.train[:3], metric=leaky, budget=dx.Budget(trials=2)
    )
    try:
        study.wait()
    except Exception as failure:  # however it ends, it must not tell
        seen += [str(failure), repr(failure)]
    failing = dx.optimize(
        SIGNATURE,
        space=dx.Space(temperature=dx.Float(0, 1, default=0.5)),
        trainset=TRIAGE.train[:3],
        metric=dx.metrics.exact_match,
        budget=dx.Budget(trials=2),
    )
    seen += _how_it_failed(failing)
    for each in (study, failing):
        seen += [repr(each), str(each.trials), str(each.scores), each.reason]
        seen += [json.dumps(dict(each.definition.identity), default=repr)]
    tables = (dx.history(), dx.runs(), dx.usage(), study.scores, failing.scores)
    seen += [each.to_csv() + each.to_html() for each in tables]
    decision = dx.explain(SIGNATURE, message=MESSAGE)
    seen += [repr(runtime), repr(decision), runtime_html(runtime), decision_html(decision)]
    _saved_with(lm, study, tmp_path / "program.json")
    runtime.close()
    assert "[redacted]" in caplog.text
    with sqlite3.connect(store) as database:
        errors = list(database.execute("SELECT error FROM score WHERE error IS NOT NULL"))
    assert any("[redacted]" in error for (error,) in errors)
    out = capsys.readouterr()
    kept = [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir() if path.is_file()]
    for text in [*seen, *kept, caplog.text, out.out, out.err]:
        assert PLANTED not in text

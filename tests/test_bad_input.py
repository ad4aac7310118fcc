"""Whatever goes wrong with a provider, however it is asked: one error of ours, within a screen, over a real socket."""

from __future__ import annotations

import http.server
import itertools
import textwrap
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import dspy
import pytest

import dspex as dx
from dspex import session
from dspex.errors import DspexError

if TYPE_CHECKING:
    from collections.abc import Mapping

TRIAGE = dx.sandbox.task("triage")
SIGNATURE = dx.signature(TRIAGE.signature, TRIAGE.instructions, name="Triage")
MESSAGE = TRIAGE.dev[0].message
PLANTED = "zebra-crossing-0815"
MODELS = ("openai/sandbox/small", "openai/sandbox/large")
ABSENT = ("openai/sandbox/giant", "openai/sandbox/dwarf")
HOWS = ("direct", "structured", "bridged", "stream")
LINES, COLUMNS = 24, 80
_OPEN_SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
}


class Trouble(NamedTuple):
    """What goes wrong, what the error is about, and who does not mind."""

    category: str
    settings: Mapping[str, Any] = MappingProxyType({})
    """Of the models, and `message`, `timeout_s` and `models`."""
    fault: str | None = None
    unmoved: tuple[str, ...] = ()
    """Ways of asking that have an answer all the same."""


TROUBLES = {
    "a wrong key": Trouble("authentication", {"api_key": PLANTED}),
    "nobody there": Trouble("availability", {"api_base": "http://127.0.0.1:9/v1"}),
    "a page of HTML": Trouble("response", {"api_base": "the page's"}),
    "a wrong path": Trouble("request", {"api_base": "the server's, elsewhere"}),
    "a wrong name": Trouble("request", {"models": ABSENT}),
    "too long a prompt": Trouble("request", {"message": MESSAGE * 8_000}),
    # The structured adapter, which streams too, puts a schema of its own in the place of the model's.
    "a refused schema": Trouble(
        "request", {"response_format": _OPEN_SCHEMA}, unmoved=("structured", "stream")
    ),
    # In a stream the bytes are within a name that nobody reads.
    "invalid UTF-8": Trouble("response", fault="bad_utf8", unmoved=("stream",)),
    "ten megabytes": Trouble("response", fault="huge"),
    "no end": Trouble("availability", {"timeout_s": 0.6}, fault="endless"),
    "no answer": Trouble("availability", {"timeout_s": 0.6}, fault="hang"),
    "half of the JSON": Trouble("response", fault="malformed"),
    "a dropped connection": Trouble("availability", fault="cut"),
}

CASES = [
    (name, how, n_models)
    for name, how, n_models in itertools.product(TROUBLES, HOWS, (1, 2))
    if (name, how, n_models) != ("ten megabytes", "bridged", 2)  # DSPy reads them for seconds; once will do
]


class _Page(http.server.BaseHTTPRequestHandler):
    """A web page where the API should be."""

    def do_POST(self) -> None:
        body = b"<!DOCTYPE html><html><body>" + b"<p>Welcome to the router</p>" * 200 + b"</body></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def bases():
    """Give the addresses by their names: the sandbox's server, a wrong path on it, and a web page's."""
    page = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    serving = threading.Thread(target=page.serve_forever)
    serving.start()
    with dx.sandbox.serve(api_key="the-right-key") as server:
        yield {
            "server": server,
            "the page's": f"http://127.0.0.1:{page.server_port}/v1",
            "the server's, elsewhere": server.url.replace("/v1", "/nowhere"),
        }
    page.shutdown()
    page.server_close()
    serving.join()


@pytest.fixture
def meet(bases):
    """Get into a trouble, asking one or two models; what comes of it is returned or raised."""

    def met(trouble: Trouble, ask: Any, n_models: int) -> Any:
        server, settings = bases["server"], dict(trouble.settings)
        server.set_faults(None if trouble.fault is None else [{"kind": trouble.fault}])
        names = settings.pop("models", MODELS)[:n_models]
        call = {"message": settings.pop("message", MESSAGE), "timeout_s": settings.pop("timeout_s", None)}
        base = settings.pop("api_base", server.url)
        given = {"api_key": "the-right-key", "cache": False, "api_base": bases.get(base, base), **settings}
        session.configure(
            [dspy.LM(name, **given) for name in names],
            modules=["Predict"],
            store="memory",
            cache=False,
            prices=dict.fromkeys(names, dx.Price(1.0, 1.0)),
            reliability=dx.Reliability(patience_s=0.5),
        )
        return ask(call)

    yield met
    session.current().close()


def executed(how: str) -> Any:
    """Return what asks in one way."""
    if how == "stream":
        return lambda call: "".join(dx.stream(SIGNATURE, **call))
    return lambda call: dx.execute(SIGNATURE, adapter=how, **call)


def searched(call: dict[str, Any]) -> Any:
    """Search with examples that all meet the trouble."""
    return dx.optimize(
        SIGNATURE,
        space=dx.Space(temperature=dx.Float(0, 1, default=0.5)),
        trainset=[{"message": f"{call['message']} {number}", "label": "refund"} for number in range(2)],
        metric=dx.metrics.exact_match,
        budget=dx.Budget(trials=1),
        timeout_s=call["timeout_s"],
    ).wait()


def shown(error: DspexError) -> list[str]:
    """Write an error as a notebook shows it, in the lines of a narrow screen."""
    written = "".join(error._render_traceback_()).replace("\x1b[31m", "").replace("\x1b[0m", "")
    return [part for line in written.splitlines() for part in textwrap.wrap(line, COLUMNS) or [""]]


def causes(error: BaseException | None) -> int:
    """Count the errors behind one."""
    return 0 if error is None else 1 + causes(error.__cause__ or error.__context__)


@pytest.mark.parametrize(("name", "how", "n_models"), CASES)
def test_every_trouble_is_told_within_a_screen(meet, name, how, n_models):
    """By one error that names the model and the next step, of the documented category, without a key or a traceback."""
    trouble = TROUBLES[name]
    if how in trouble.unmoved:
        assert meet(trouble, executed(how), n_models)
        return
    with pytest.raises(DspexError) as caught:
        meet(trouble, executed(how), n_models)
    lines = shown(caught.value)
    text = " ".join(lines)
    assert len(lines) <= LINES
    assert len(set(lines)) == len(lines)
    assert any(model in text for model in trouble.settings.get("models", MODELS)[:n_models])
    assert caught.value.hint
    assert "→" in text
    assert caught.value.category == trouble.category
    assert causes(caught.value) <= 4
    for strange in (PLANTED, "Traceback", "site-packages", "lm15", "<p>", '{"id"'):
        assert strange not in text


ENDING = (
    "a wrong key",
    "nobody there",
    "a page of HTML",
    "a wrong name",
    "invalid UTF-8",
    "half of the JSON",
    "a dropped connection",
)
"""Troubles that a study ends with, because the model answers nobody; others are the examples' own."""


@pytest.mark.parametrize(
    "name", [each for each, trouble in TROUBLES.items() if trouble.fault != "huge" and each not in ENDING]
)
def test_a_study_in_which_nothing_is_answered_says_so(meet, name):
    """Its reason names the model and what it met most often; each row has that and no traceback."""
    study = meet(TROUBLES[name], searched, 1)
    assert f"every example failed with {MODELS[0]}, most often by " in study.reason
    assert "every example failed" in repr(study)
    assert len(textwrap.wrap(study.reason, COLUMNS)) <= LINES
    for error in study.scores["error"]:
        assert PLANTED not in error
        assert "Traceback" not in error
        assert len(error) < 1_000


@pytest.mark.parametrize("name", ENDING)
def test_a_study_whose_model_answers_nobody_ends_and_says_why(meet, name):
    """One error that names the model, what it did last and how to go on; nothing is scored 0 for it."""
    trouble = TROUBLES[name]
    with pytest.raises(DspexError) as caught:
        meet(trouble, searched, 1)
    lines = shown(caught.value)
    text = " ".join(lines)
    assert len(lines) <= LINES
    assert trouble.settings.get("models", MODELS)[0] in text
    assert "resume=True" in text
    assert PLANTED not in text
    (study,) = session.current().studies.values()
    assert (study.state, len(study.scores)) == ("failed", 0)


def test_a_study_in_which_something_is_answered_says_nothing(meet):
    """Where one example was scored, the trials say how many were not."""
    study = meet(Trouble("none"), searched, 1)
    assert "every example failed" not in study.reason + repr(study)

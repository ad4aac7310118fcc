"""What real clients raise against a real socket, and what it becomes."""

import asyncio
import json
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor

import dspy
import httpx
import openai
import pytest
from dspy import lm15
from dspy.utils.exceptions import AdapterParseError

from dspex import sandbox
from dspex.bridge.failures import translate, translated, unreadable
from dspex.errors import (
    AuthenticationError,
    BadResponseError,
    BillingError,
    ContextWindowExceededError,
    DataError,
    DspexError,
    ModelNotFoundError,
    ProviderError,
    RateLimitedError,
    RequestRefusedError,
    SchemaRefusedError,
    TimedOutError,
    UnavailableError,
)

KEY = "sk-planted-4711-planted"
WRONG = "sk-planted-wrong-0815-planted"
USER = [{"role": "user", "content": "hi"}]
OPEN_SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "a", "strict": True, "schema": {"type": "object"}},
}

CASES = {
    "wrong key": (AuthenticationError, {"api_key": WRONG}),
    "unknown model": (ModelNotFoundError, {"model": "gpt-4o"}),
    "too long": (ContextWindowExceededError, {"messages": [{"role": "user", "content": "x" * 70_000}]}),
    "refused schema": (SchemaRefusedError, {"response_format": OPEN_SCHEMA}),
    "impossible setting": (RequestRefusedError, {"temperature": 7}),
    "rate limit": (RateLimitedError, {"fault": {"kind": "rate_limit", "retry_after_s": 7}}),
    "no money": (BillingError, {"fault": {"kind": "quota"}}),
    "down": (UnavailableError, {"fault": {"kind": "server_error", "status": 500}}),
    "overloaded": (UnavailableError, {"fault": {"kind": "server_error", "status": 529}}),
    "proxy": (UnavailableError, {"fault": {"kind": "proxy_page"}}),
    "hang": (TimedOutError, {"fault": {"kind": "hang"}, "timeout": 0.2}),
    "drop": (UnavailableError, {"fault": {"kind": "drop"}}),
    "cut": (UnavailableError, {"fault": {"kind": "cut"}}),
    "broken JSON": (BadResponseError, {"fault": {"kind": "malformed"}}),
    "no text": (BadResponseError, {"fault": {"kind": "bad_utf8"}}),
    "nobody there": (UnavailableError, {"url": "http://127.0.0.1:9/v1"}),
    "wrong address": (RequestRefusedError, {"path": "/nowhere"}),
}
BILLED = {"hang", "drop", "cut", "broken JSON", "no text"}


def by_dspy(url, *, model, messages, **settings):
    dspy.LM(f"openai/{model}", api_base=url, cache=False, num_retries=0, **settings)(messages[0]["content"])


def by_openai(url, *, api_key, timeout, **settings):
    with openai.OpenAI(base_url=url, api_key=api_key, timeout=timeout, max_retries=0) as client:
        client.chat.completions.create(**settings)


def by_awaited_openai(url, *, api_key, timeout, **settings):
    async def ask():
        async with openai.AsyncOpenAI(
            base_url=url, api_key=api_key, timeout=timeout, max_retries=0
        ) as client:
            await client.chat.completions.create(**settings)

    # In a thread of its own, whose event loop nobody else has set.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, ask()).result()


def by_httpx(url, *, api_key, timeout, **settings):
    headers = {"Authorization": f"Bearer {api_key}"}
    response = httpx.post(f"{url}/chat/completions", json=settings, headers=headers, timeout=timeout)
    response.raise_for_status()
    response.json()


def by_litellm(url, *, model, **settings):
    litellm = pytest.importorskip("litellm")
    litellm.suppress_debug_info = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, about its own types
        litellm.completion(model=f"openai/{model}", api_base=url, num_retries=0, max_retries=0, **settings)


CLIENTS = {each.__name__: each for each in (by_dspy, by_openai, by_awaited_openai, by_httpx, by_litellm)}


@pytest.fixture(scope="module")
def server():
    with sandbox.serve(api_key=KEY) as server:
        yield server


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    # DSPy and LiteLLM would look for newer tables of models and prices on the network.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def failure(server, client, case):
    """Make the failure, and return what it became."""
    options = {"api_key": KEY, "model": "sandbox/small", "messages": USER, "timeout": 20, **CASES[case][1]}
    fault, path = options.pop("fault", None), options.pop("path", "")
    url = options.pop("url", server.url) + path
    server.set_faults([] if fault is None else [fault])
    with pytest.raises(DspexError) as caught, translated():
        CLIENTS[client](url, **options)
    return caught.value


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("client", CLIENTS)
def test_every_failure_becomes_one_of_ours(server, client, case):
    """Whichever client met it, a failure has its kind, a next step, no secret, and fits on a screen."""
    error = failure(server, client, case)
    assert type(error) is CASES[case][0]
    assert error.hint
    assert error.provider in error.message
    assert len(str(error).splitlines()) < 10
    assert len(str(error)) < 800
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    assert WRONG not in shown
    assert KEY not in shown
    if case == "rate limit" and client != "by_litellm":
        assert error.retry_after_s == 7.0
    assert error.possibly_billed == (case in BILLED)


def test_the_provider_is_named_as_asked(server):
    """Who is told comes first, then what it means, its status, and what the provider said."""
    server.set_faults([])
    with pytest.raises(ModelNotFoundError) as caught, translated("openai/gpt-4o"):
        by_openai(server.url, api_key=KEY, timeout=20, model="gpt-4o", messages=USER)
    assert str(caught.value) == (
        "openai/gpt-4o has no such model, or not for this key (404): The model `gpt-4o` does not exist or you do "
        "not have access to it. There are: sandbox/small, sandbox/medium, sandbox/large.\n"
        "  → compare the model's name with the provider's list"
    )
    assert isinstance(caught.value.__cause__, openai.NotFoundError)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "-3"}, 0.0),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"Retry-After": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:40 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_when_to_come_back(headers, expected):
    """Seconds, milliseconds and dates are read; nonsense is not."""
    request = httpx.Request("POST", "https://api.example.com/v1")
    response = httpx.Response(429, headers=headers, json={"error": "later"}, request=request)
    ours = translate(httpx.HTTPStatusError("429", request=request, response=response), now=lambda: 60.0)
    assert type(ours) is RateLimitedError
    assert ours.retry_after_s == expected
    assert ours.message == "api.example.com asks to be called again later (429): later"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (lm15.TimeoutError("late"), TimedOutError),
        (lm15.ContextLengthError("too long"), ContextWindowExceededError),
        (lm15.BillingError("pay"), BillingError),
        (lm15.UnsupportedModelError("no"), ModelNotFoundError),
        (lm15.NotConfiguredError("no key"), AuthenticationError),
        (lm15.UnsupportedFeatureError("no tools"), RequestRefusedError),
        (lm15.StreamAssemblyError("half"), BadResponseError),
        (lm15.TransportError("reset"), UnavailableError),
        (lm15.LM15Error("what"), ProviderError),
        (httpx.ConnectTimeout("timed out"), TimedOutError),
        (httpx.UnsupportedProtocol("no http"), RequestRefusedError),
        (httpx.PoolTimeout("busy"), TimedOutError),
        (dspy.utils.exceptions.LMUnexpectedError("odd"), ProviderError),
        (dspy.utils.exceptions.LMServerError("down", model="openai/x", status=503), UnavailableError),
    ],
)
def test_by_name(error, kind):
    """Failures that a test server cannot make are known by their names."""
    ours = translate(error, provider="p/m")
    assert type(ours) is kind
    assert ours.message.startswith("p/m ")


@pytest.mark.parametrize("error", [httpx.ConnectTimeout("timed out"), httpx.PoolTimeout("busy")])
def test_what_was_never_sent_was_never_billed(error):
    """A request that did not leave cost nothing, even if it took too long."""
    assert not translate(error).possibly_billed


def test_mistakes_in_programs_are_not_relabelled():
    """Only what a provider's client raised is a provider's failure; ours stay as they are."""
    for make in (lambda: {}["a"], lambda: json.loads("{"), lambda: int("x"), lambda: open("/nowhere")):  # noqa: SIM115, PTH123
        with pytest.raises((KeyError, ValueError, OSError)) as caught, translated():
            make()
        assert not isinstance(caught.value, DspexError)
    ours = DataError("no examples")
    assert translate(ours) is ours
    with pytest.raises(DataError) as caught, translated():
        raise ours
    assert caught.value is ours
    with pytest.raises(KeyboardInterrupt), translated():
        raise KeyboardInterrupt


def test_a_long_complaint_is_quoted_in_part():
    """However much a provider says, the message stays short; pages of HTML are not shown."""
    assert len(str(translate(lm15.ServerError("x" * 100_000)))) < 600
    assert "a page of HTML" in str(translate(lm15.ServerError("<html>" + "x" * 100_000)))
    assert "advice" not in str(translate(lm15.ServerError("down\n\nadvice")))


def test_an_answer_that_dspy_cannot_read_is_told_in_a_few_lines():
    """As what it was read, why, how it begins and how long it is; half of a key is not shown either."""
    written = "a" * 150 + " sk-planted-4711-planted " + "b" * 10_000_000
    task = dspy.Signature("question -> label, why")
    error = unreadable(AdapterParseError("JSONAdapter", task, written, message="no JSON"), "openai/m")
    assert error.message == (
        f"openai/m answered what DSPy cannot read as label, why: no JSON; it wrote '{'a' * 150} [redacted' … "
        "(10,000,175 characters)"
    )
    assert error.hint.startswith("try again")


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        ("is not JSON: x. Body starts: '<!DOCTYPE html><p>Welcome'", "is not JSON: x. It is a page of HTML."),
        ("""is not JSON: x. Body starts: '{"id": "chatcmpl-1", "obj…'""", "is not JSON: x."),
        (
            "is not JSON: x. Body starts: 'upstream is down'",
            "is not JSON: x. Body starts: 'upstream is down'",
        ),
        ("not a finished turn (MAP-3)", "not a finished turn"),
    ],
)
def test_what_the_client_adds_for_its_makers_is_left_out(said, quoted):
    """Pages, broken objects and numbers of its own rules; words that somebody wrote stay."""
    assert translate(lm15.ProviderError(said), provider="openai/m").message.endswith(f": {quoted}")

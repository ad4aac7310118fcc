"""A real provider's path, over the loopback interface: HTTP, JSON, tokens, prices and failures."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dspy
import pytest

from dspex.bridge import binding, clients, prices, program
from dspex.bridge import lm as bridge
from dspex.records import Price, Prompt

API_KEY = "sk-planted-4711"
ANSWER = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"


class Provider(BaseHTTPRequestHandler):
    """Speaks just enough of OpenAI's chat completions."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, self.headers["Authorization"], request))
        status = self.server.status
        if status == 200:
            body = {
                "id": "c1",
                "object": "chat.completion",
                "created": 1,
                "model": request["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": ANSWER},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
            }
        else:
            body = {"error": {"message": self.server.complaint, "type": "error", "code": None}}
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 429:
            self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        """Keep quiet."""


@pytest.fixture
def provider():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    server.daemon_threads = True
    server.seen, server.status, server.complaint = [], 200, ""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def lm(provider, monkeypatch):
    monkeypatch.setattr(prices, "_declared", {})
    return bridge.from_name(
        "openai/gpt-4o-mini",
        api_base=f"http://127.0.0.1:{provider.server_port}/v1",
        api_key=API_KEY,
        cache=False,
        num_retries=0,
    )


def ask(lm, **values):
    made = binding.bind(dspy.Predict("question -> answer"), values, default_lm=lm)
    return program.run(made, {"question": "What is the capital of France?"}, lm)


def test_an_answer_over_http(provider, lm):
    """The answer arrives with its tokens, the table's price for them, and the clock's seconds."""
    prediction, outcome = ask(lm)
    assert prediction.answer == "Paris"
    assert (outcome.output, outcome.error) == ({"answer": "Paris"}, None)
    assert (outcome.usage.calls, outcome.usage.tokens_in, outcome.usage.tokens_out) == (1, 1000, 200)
    # OpenAI's list price: 0.15 and 0.60 US dollars per million tokens.
    assert outcome.usage.cost_usd == pytest.approx(1000 * 0.15e-6 + 200 * 0.6e-6)
    assert outcome.usage.latency_s > 0
    ((path, authorization, request),) = provider.seen
    assert (path, authorization, request["model"]) == (
        "/v1/chat/completions",
        f"Bearer {API_KEY}",
        "gpt-4o-mini",
    )
    assert "What is the capital of France?" in request["messages"][-1]["content"]


def test_settings_travel_over_http(provider, lm):
    """Bound sampling settings and instructions are in the request that the provider sees."""
    ask(lm, temperature=0.25, top_p=0.5, instructions="Name the city only.")
    ((_, _, request),) = provider.seen
    assert (request["temperature"], request["top_p"]) == (0.25, 0.5)
    assert "Name the city only." in request["messages"][0]["content"]


def test_a_models_own_settings_travel_with_prompts_of_ours(provider, lm):
    """What a model was given goes along where DSPy is asked with a prompt of ours, which has the last word."""
    asked = lm.copy(top_p=0.5, seed=5, stop=["END"], logit_bias={"1": 2}, temperature=0.25, n=1)
    client = clients.client_of(asked)
    assert type(client) is clients.LmClient
    client.complete(Prompt("m", "", (("user", "?"),), temperature=0.75))
    ((_, _, request),) = provider.seen
    sent = {name: request[name] for name in ("top_p", "seed", "stop", "logit_bias", "temperature")}
    assert sent == {"top_p": 0.5, "seed": 5, "stop": ["END"], "logit_bias": {"1": 2}, "temperature": 0.75}


def test_a_draw_is_part_of_what_dspys_cache_goes_by(provider, lm):
    """The same prompt for another draw is asked anew; for the same one it is recalled."""
    client = clients.LmClient(lm.copy(cache=True, top_p=0.5))
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    try:
        for rollout in (1, 1, 2):
            client.complete(Prompt("m", "", (("user", "which draw?"),), temperature=1.0, rollout=rollout))
    finally:
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    assert len(provider.seen) == 2


def test_a_declared_price_is_used(provider, lm):
    """A price that the user declares comes before the table's."""
    prices.declare("openai/gpt-4o-mini", Price(1, 10))
    assert ask(lm)[1].usage.cost_usd == pytest.approx(0.003)


@pytest.mark.parametrize(
    ("status", "complaint", "described"),
    [
        (
            429,
            "slow down please",
            "RateLimitedError: openai/gpt-4o-mini asks to be called again later (429): slow",
        ),
        (
            500,
            "the server had an error",
            "UnavailableError: openai/gpt-4o-mini is not available (500): the server",
        ),
        (503, "overloaded", "UnavailableError: openai/gpt-4o-mini is not available (503): overloaded"),
        (401, "no such key", "AuthenticationError: openai/gpt-4o-mini does not take the key (401): no such"),
        (400, "bad request", "RequestRefusedError: openai/gpt-4o-mini does not take this request (400): bad"),
    ],
)
def test_a_refusal_is_an_outcome(provider, lm, status, complaint, described):
    """A provider's refusal becomes a failed outcome that names it; it is asked once and costs nothing."""
    provider.status, provider.complaint = status, complaint
    prediction, outcome = ask(lm)
    assert prediction is None
    assert (outcome.ok, outcome.usage.calls, outcome.usage.cost_usd) == (False, 0, 0.0)
    assert outcome.error.startswith(described)
    assert complaint in outcome.traceback
    assert len(provider.seen) == 1


def test_nobody_at_home_is_an_outcome(monkeypatch):
    """A provider that cannot be reached is a failed outcome too."""
    monkeypatch.setattr(prices, "_declared", {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    port = server.server_port
    server.server_close()
    lm = bridge.from_name(
        "openai/gpt-4o-mini",
        api_base=f"http://127.0.0.1:{port}/v1",
        api_key=API_KEY,
        cache=False,
        num_retries=0,
    )
    _, outcome = ask(lm)
    assert outcome.error.startswith(
        "UnavailableError: openai/gpt-4o-mini is not available: failed to connect"
    )
    assert API_KEY not in repr(outcome)


@pytest.mark.parametrize("status", [200, 401, 429, 500])
def test_the_key_is_never_kept(provider, lm, status):
    """The API key goes to the provider and nowhere else: not into the outcome, the model's repr, or its state."""
    provider.status, provider.complaint = status, "no"
    prediction, outcome = ask(lm)
    assert provider.seen[0][1] == f"Bearer {API_KEY}"
    for shown in (repr(outcome), repr(prediction), repr(lm), repr(lm.dump_state()), str(outcome.traceback)):
        assert API_KEY not in shown

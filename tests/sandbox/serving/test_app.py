"""The server as clients see it, over a real socket."""

import json
import socket
import warnings

import dspy
import httpx
import openai
import pytest

USER = [{"role": "user", "content": "I was charged twice for the desk lamp, $20 each time."}]


@pytest.fixture
def http(server, key):
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=10) as client:
        yield client


@pytest.fixture
def client(server, key):
    with openai.OpenAI(base_url=server.url, api_key=key, max_retries=0, timeout=10) as made:
        yield made


def ask(http, **settings):
    return http.post("/chat/completions", json={"model": "sandbox/small", "messages": USER, **settings})


def events(response):
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


# ── the wire format ─────────────────────────────────────────────────────────────────────────────


def test_a_completion_has_openais_shape(http):
    """Names, nesting and types are those that OpenAI publishes."""
    response = ask(http)
    body = response.json()
    assert response.headers["content-type"] == "application/json"
    assert list(body) == ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
    assert body["id"].startswith("chatcmpl-")
    assert (body["object"], body["model"], type(body["created"])) == ("chat.completion", "sandbox/small", int)
    (choice,) = body["choices"]
    assert {name: choice[name] for name in ("index", "logprobs", "finish_reason")} == {
        "index": 0,
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] in ("refund", "billing", "shipping")
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


def test_a_stream_says_what_a_completion_says(http):
    """Role first, pieces of text, a reason to finish, and, if asked for, the usage of the whole."""
    whole = ask(http, n=2).json()
    response = ask(http, n=2, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    chunks = events(response)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    for index in range(2):
        choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        assert choices[0]["delta"]["role"] == "assistant"
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        assert text == whole["choices"][index]["message"]["content"]
        assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], whole["usage"])
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert not any("usage" in chunk for chunk in events(ask(http, stream=True)))


def test_tool_calls_stream_as_they_are(client):
    """A tool's call, put together from its pieces, is the one of the whole answer."""
    tool = {
        "type": "function",
        "function": {
            "name": "look",
            "parameters": {"properties": {"at": {"type": "string"}}, "required": ["at"]},
        },
    }
    asked = {"model": "small", "messages": USER, "tools": [tool]}
    (call,) = client.chat.completions.create(**asked).choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"at": USER[0]["content"]}
    with client.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert final.message.tool_calls[0].function.arguments == call.function.arguments


def test_models_and_health(http, server):
    """The three models are listed; whether it is well needs no key."""
    listed = http.get("/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["sandbox/small", "sandbox/medium", "sandbox/large"]
    assert httpx.get(server.url.replace("/v1", "/healthz")).json() == {"status": "ok", "simulated": True}


@pytest.mark.parametrize(("path", "status"), [("/completions", 404), ("/chat/completions", 405)])
def test_other_addresses_are_refused_in_json(http, path, status):
    """A wrong address or method is an error with OpenAI's body."""
    response = http.get(path)
    assert response.status_code == status
    assert response.json()["error"]["message"] == f"Invalid URL (GET /v1{path})"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"Authorization": "Bearer sk-wrong-0123456789"}, "invalid_api_key"),
        ({"Authorization": "Bearer no"}, "invalid_api_key"),
        ({}, None),
    ],
)
def test_a_wrong_key_is_refused(server, key, given, code):
    """Without the key there is nothing but 401, and the answer shows neither the key nor what was tried."""
    asked = {"model": "sandbox/small", "messages": USER}
    for response in (
        httpx.get(f"{server.url}/models", headers=given),
        httpx.post(f"{server.url}/chat/completions", json=asked, headers=given),
    ):
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["type"]) == (401, code, "invalid_request_error")
        assert "wrong-012345" not in error["message"]
        assert key not in response.text


def test_refusals_have_openais_body(http):
    """An unknown model is an error object of four members."""
    response = ask(http, model="gpt-4o")
    assert response.status_code == 404
    error = response.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["code"] == "model_not_found"


def test_connections_are_kept(server, key):
    """Two requests over one connection are both answered on it."""
    body = json.dumps({"model": "small", "messages": USER}).encode()
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(request)
            answer = b""
            while b'"total_tokens"' not in answer or not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")


# ── mishaps ─────────────────────────────────────────────────────────────────────────────────────


def test_a_rate_limit_says_when_to_return(server, http):
    """429, with and without Retry-After; then all is well again."""
    server.set_faults(
        [
            {"kind": "rate_limit", "calls": [0, 1], "retry_after_s": 7},
            {"kind": "rate_limit", "calls": [1, 2], "retry_after_s": None},
        ]
    )
    first, second, third = (ask(http) for _ in range(3))
    assert (first.status_code, first.headers["retry-after"]) == (429, "7")
    assert first.json()["error"]["code"] == "rate_limit_exceeded"
    assert (second.status_code, "retry-after" in second.headers) == (429, False)
    assert third.status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("mishap", "expected"),
    [
        ({"kind": "quota"}, "RateLimitError"),
        ({"kind": "server_error", "status": 500}, "InternalServerError"),
        ({"kind": "proxy_page"}, "InternalServerError"),
        ({"kind": "drop"}, "APIConnectionError"),
        ({"kind": "hang"}, "APITimeoutError"),
        ({"kind": "cut"}, "APIConnectionError|RemoteProtocolError|ReadError"),
        ({"kind": "malformed"}, "JSONDecodeError"),
        ({"kind": "bad_utf8"}, "UnicodeDecodeError"),
    ],
)
def test_what_a_client_makes_of_a_mishap(server, client, mishap, stream, expected):
    """Each mishap is what OpenAI's own client takes it for, whole or streamed."""
    server.set_faults([mishap])
    timeout = 0.2 if mishap["kind"] == "hang" else 10
    with pytest.raises(Exception) as caught:  # noqa: PT011  # which one is the question
        list(
            client.with_options(timeout=timeout).chat.completions.create(
                model="small", messages=USER, stream=stream
            )
        )
    assert type(caught.value).__name__ in expected.split("|")
    assert server.calls[-1].mishap == mishap["kind"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["late", "slow"])
def test_a_slow_answer_is_whole(server, http, kind, stream):
    """However slowly it comes, everything arrives."""
    usual = ask(http, stream=stream)
    server.set_faults([{"kind": kind, "delay_s": 0.05}])
    slow = ask(http, stream=stream)
    assert server.calls[-1].mishap == kind
    if stream:
        assert [each["choices"] for each in events(slow)] == [each["choices"] for each in events(usual)]
    else:
        assert slow.json()["choices"] == usual.json()["choices"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_huge_answer_arrives(server, http, stream):
    """Ten megabytes are ten megabytes."""
    server.set_faults([{"kind": "huge"}])
    response = ask(http, stream=stream)
    if stream:
        deltas = (chunk["choices"][0]["delta"] for chunk in events(response))
        size = sum(len(delta.get("content") or "") for delta in deltas)
    else:
        size = len(response.json()["choices"][0]["message"]["content"])
    assert size >= 10_000_000


@pytest.mark.parametrize("stream", [False, True])
def test_an_endless_answer_ends_when_the_client_goes(server, http, stream):
    """It goes on for as long as somebody reads, and the server answers others meanwhile."""
    server.set_faults([{"kind": "endless", "calls": [0, 1]}])
    body = {"model": "small", "messages": USER, "stream": stream}
    with http.stream("POST", "/chat/completions", json=body) as response:
        pieces = response.iter_raw()
        assert all(len(next(pieces)) > 0 for _ in range(10))
        assert ask(http).status_code == 200


def test_faults_are_set_over_http(server, http, key):
    """The plan is read and changed at an address of its own; a wrong one is refused and changes nothing."""
    admin = server.url.replace("/v1", "/sandbox/faults")
    response = http.put(admin, json={"fault": [{"kind": "drop", "share": 0.5}], "seed": 9})
    assert response.json()["fault"][0]["kind"] == "drop"
    for wrong in (b"[]", b"{", b'{"fault": [{"kind": "hnag"}]}'):
        refused = http.put(admin, content=wrong)
        assert refused.status_code == 400
        assert refused.json()["error"]["message"]
    assert http.get(admin).json() == response.json()
    assert http.get(admin).json()["seed"] == 9
    assert httpx.get(admin).status_code == 401


# ── DSPy and LiteLLM ────────────────────────────────────────────────────────────────────────────


def lm_at(server, key, **settings):
    return dspy.LM(
        "openai/sandbox/large", api_base=server.url, api_key=key, cache=False, num_retries=0, **settings
    )


def test_dspy_asks_it_like_any_provider(server, key):
    """The same prompt gets the same answer through a socket and without one, from every adapter."""
    from dspex import sandbox

    program = dspy.Predict(
        dspy.Signature(sandbox.task("triage").signature, sandbox.task("triage").instructions)
    )
    example = sandbox.task("triage").dev[0]
    for adapter in (dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()):
        found = []
        for lm in (lm_at(server, key, temperature=0.0), sandbox.lm("large", temperature=0.0)):
            with dspy.context(lm=lm, adapter=adapter):
                found.append(program(**example.inputs()).label)
        assert found[0] == found[1]


def test_litellm_asks_it_too(server, key):
    """LiteLLM reads its answers and its errors."""
    litellm = pytest.importorskip("litellm")
    asked = {"model": "openai/sandbox/small", "messages": USER, "api_base": server.url, "num_retries": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, about its own types
        response = litellm.completion(**asked, api_key=key)
    assert response.choices[0].message.content in ("refund", "billing", "shipping")
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(**asked, api_key="sk-wrong")

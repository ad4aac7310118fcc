"""Adapters beside other clients, over the loopback interface: latency, throughput and tokens."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import dspy

from dspex import adapters, sandbox
from dspex.bench.timing import print_rows
from dspex.native.signature import signature

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Call = Callable[[], Any]

_PEERS = ("litellm", "openai", "instructor", "httpx")
_SPEC = "question -> answer"
_QUESTION = "What is the capital of France?"
_ALONE = 200
_TOGETHER = 1_000
_IN_FLIGHT = 50
_ROUNDS = 3
_WAIT_S = 0.02
"""How long the stand-in for a provider takes, when many ask at once."""
_BODY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "stub",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "CONTENT"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17},
}


class Client(NamedTuple):
    """One way of asking, for threads and for event loops."""

    call: Call
    acall: Callable[[], Awaitable[Any]]
    close: Call = lambda: None


def run() -> None:
    """Print the figures."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    missing = [name for name in _PEERS if importlib.util.find_spec(name) is None]
    there = [name for name in _PEERS if name not in missing]
    print("  peers: " + ", ".join(f"{name} {version(name)}" for name in there))
    if missing:
        print(f"  not installed: {', '.join(missing)} (pip install --group bench)")
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    logging.getLogger("dspex.prices").setLevel(logging.ERROR)
    for wait_s, figures in ((0.0, _print_alone), (_WAIT_S, _print_together)):
        with _provider(wait_s) as base:
            clients = _clients(base, there)
            figures(clients)
            for client in clients.values():
                client.close()
    _print_tokens()


# ── the figures ─────────────────────────────────────────────────────────────────────────────────


def _print_alone(clients: dict[str, Client]) -> None:
    """Take turns, one call at a time."""
    taken: dict[str, list[float]] = {name: [] for name in clients}
    cpu = dict.fromkeys(clients, 0.0)
    for client in clients.values():
        client.call()
    for _ in range(_ALONE):
        for name, client in clients.items():
            began, worked = time.perf_counter(), time.thread_time()
            client.call()
            taken[name].append(1e3 * (time.perf_counter() - began))
            cpu[name] += time.thread_time() - worked
    print_rows({f"1 at a time, p50: {name}": statistics.median(each) for name, each in taken.items()}, "ms")
    print_rows({f"1 at a time, CPU: {name}": 1e3 * each / _ALONE for name, each in cpu.items()}, "ms")


def _print_together(clients: dict[str, Client]) -> None:
    """Keep many in flight on one event loop; rounds take turns, and each client's best one counts."""
    best: dict[str, float] = dict.fromkeys(clients, 0.0)
    p50: dict[str, float] = {}
    for _ in range(_ROUNDS):
        for name, client in clients.items():
            rate, median_ms = asyncio.run(_flood(client))
            if rate > best[name]:
                best[name], p50[name] = rate, median_ms
    print_rows({f"{_IN_FLIGHT} in flight, p50: {name}": each for name, each in p50.items()}, "ms")
    print_rows({f"{_IN_FLIGHT} in flight: {name}": each for name, each in best.items()}, "/s")
    ours = best["dspex direct"]
    others = {name: ours / each for name, each in best.items() if not name.startswith("dspex")}
    print_rows({f"dspex direct, so many times {name}": each for name, each in others.items()}, "x")


async def _flood(client: Client) -> tuple[float, float]:
    left, taken = iter(range(_TOGETHER)), list[float]()

    async def worker() -> None:
        for _ in left:
            began = time.perf_counter()
            await client.acall()
            taken.append(1e3 * (time.perf_counter() - began))

    await client.acall()
    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(_IN_FLIGHT)))
    rate = _TOGETHER / (time.perf_counter() - began)
    close = getattr(getattr(client.acall, "__self__", None), "aclose", None)
    if close is not None:
        await close()
    return rate, statistics.median(taken)


def _print_tokens() -> None:
    """Count what a provider would bill for the question, in tokens of the simulated model."""
    lm = sandbox.lm("large")
    spec = signature(_SPEC)
    asks = {
        "dspex direct": adapters.direct(lm),
        "dspex structured": adapters.structured(lm),
        "dspy.Predict": adapters.bridged("Predict", lm),
    }
    used = {name: ask.generate(spec, question=_QUESTION).usage.tokens_in for name, ask in asks.items()}
    print_rows({f"tokens of the prompt: {name}": float(each) for name, each in used.items()}, "")


# ── the clients ─────────────────────────────────────────────────────────────────────────────────


def _clients(base: str, there: list[str]) -> dict[str, Client]:
    spec = signature(_SPEC)
    settings: dict[str, Any] = {"api_base": base, "api_key": "any"}
    direct = adapters.direct("openai/stub", **settings)
    structured = adapters.structured("openai/stub", **settings)
    predict = dspy.Predict(_SPEC)
    lm = dspy.LM("openai/stub", cache=False, num_retries=0, **settings)

    def predicted() -> Any:
        with dspy.context(lm=lm):
            return predict(question=_QUESTION)

    async def apredicted() -> Any:
        with dspy.context(lm=lm):
            return await predict.acall(question=_QUESTION)

    found = {
        "dspex direct": Client(
            lambda: direct.generate(spec, question=_QUESTION),
            _Bound(direct, lambda: direct.agenerate(spec, question=_QUESTION)).ask,
            direct.close,
        ),
        "dspex structured": Client(
            lambda: structured.structured(spec, question=_QUESTION),
            _Bound(structured, lambda: structured.astructured(spec, question=_QUESTION)).ask,
            structured.close,
        ),
        "dspy.Predict": Client(predicted, apredicted),
    }
    makers = {"litellm": _litellm, "openai": _openai, "instructor": _instructor, "httpx": _httpx}
    return found | {name: makers[name](base) for name in there}


class _Bound:
    """An adapter's call, with the adapter's way to let go of a loop's connections."""

    def __init__(self, adapter: adapters.Adapter, ask: Callable[[], Awaitable[Any]]) -> None:
        self._adapter, self._ask = adapter, ask

    async def ask(self) -> Any:
        return await self._ask()

    async def aclose(self) -> None:
        await self._adapter.aclose()


class _PerLoop:
    """A client that is made anew for each event loop."""

    def __init__(self, make: Callable[[], Any], ask: Callable[[Any], Awaitable[Any]]) -> None:
        self._make, self._ask, self._client = make, ask, None

    async def ask(self) -> Any:
        if self._client is None:
            self._client = self._make()
        return await self._ask(self._client)

    async def aclose(self) -> None:
        client, self._client = self._client, None
        close = getattr(client, "aclose", None) or getattr(client, "close", None)
        if close is not None:
            await close()


def _asked() -> dict[str, Any]:
    return {"model": "stub", "messages": [{"role": "user", "content": _QUESTION}]}


def _litellm(base: str) -> Client:
    import litellm

    asked = {**_asked(), "model": "openai/stub", "api_base": base, "api_key": "any"}
    return Client(lambda: litellm.completion(**asked), lambda: litellm.acompletion(**asked))


def _openai(base: str) -> Client:
    import openai

    client = openai.OpenAI(base_url=base, api_key="any", max_retries=0)
    make = lambda: openai.AsyncOpenAI(base_url=base, api_key="any", max_retries=0)  # noqa: E731  # two of a kind
    return Client(
        lambda: client.chat.completions.create(**_asked()),
        _PerLoop(make, lambda each: each.chat.completions.create(**_asked())).ask,
        client.close,
    )


def _instructor(base: str) -> Client:
    import instructor
    import openai
    import pydantic

    answer = pydantic.create_model("Answer", answer=(str, ...))
    mode = instructor.Mode.JSON
    wanted: dict[str, Any] = {"response_model": answer, "max_retries": 1}
    inner = openai.OpenAI(base_url=base, api_key="any", max_retries=0)
    client: Any = instructor.from_openai(inner, mode=mode)

    class Held:
        def __init__(self) -> None:
            self.inner = openai.AsyncOpenAI(base_url=base, api_key="any", max_retries=0)
            self.client = instructor.from_openai(self.inner, mode=mode)

        async def aclose(self) -> None:
            await self.inner.close()

    return Client(
        lambda: client.chat.completions.create(**_asked(), **wanted),
        _PerLoop(Held, lambda each: each.client.chat.completions.create(**_asked(), **wanted)).ask,
        inner.close,
    )


def _httpx(base: str) -> Client:
    import httpx

    url, headers = f"{base}/chat/completions", {"Authorization": "Bearer any"}
    client = httpx.Client(headers=headers)

    def post() -> Any:
        return client.post(url, json=_asked()).json()["choices"][0]["message"]["content"]

    async def apost(each: Any) -> Any:
        return (await each.post(url, json=_asked())).json()["choices"][0]["message"]["content"]

    limits = httpx.Limits(max_connections=_IN_FLIGHT, max_keepalive_connections=_IN_FLIGHT)
    make = lambda: httpx.AsyncClient(headers=headers, limits=limits)  # noqa: E731  # two of a kind
    return Client(post, _PerLoop(make, apost).ask, client.close)


# ── the provider ────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def _provider(wait_s: float) -> Any:
    """Run the stand-in for a provider in a process of its own, so that it takes no time from its clients."""
    said = (json.dumps({"answer": "Paris"}), "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]")
    bodies = [json.dumps(_BODY).replace('"CONTENT"', json.dumps(each)) for each in said]
    running = subprocess.Popen(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", _STUB, str(wait_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert running.stdin is not None
    assert running.stdout is not None
    try:
        running.stdin.write("\n".join(bodies).encode())
        running.stdin.close()
        port = int(running.stdout.readline())
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        running.terminate()
        running.wait()
        running.stdout.close()


_STUB = """
import asyncio, sys

wait_s, bodies = float(sys.argv[1]), sys.stdin.buffer.read().split(b"\\n")
head = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
as_object, as_dspy = [head % len(body) + body for body in bodies]

async def serve(reader, writer):
    try:
        while True:
            asked = await reader.readuntil(b"\\r\\n\\r\\n")
            fields = dict(line.lower().split(b": ", 1) for line in asked.split(b"\\r\\n")[1:] if b": " in line)
            said = await reader.readexactly(int(fields.get(b"content-length", b"0")))
            if wait_s:
                await asyncio.sleep(wait_s)
            writer.write(as_dspy if b"[[ ## " in said else as_object)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

"""The routes of the sandbox's HTTP server, and what goes wrong on the way back."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from dspex.errors import DspexError
from dspex.sandbox.serving import gemini, replies
from dspex.sandbox.serving.answers import answers
from dspex.sandbox.serving.anthropic import ANTHROPIC
from dspex.sandbox.serving.mishaps import Mishap, Plan
from dspex.sandbox.serving.requests import Refused
from dspex.sandbox.serving.wires import OPENAI

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from dspex.sandbox.serving.answers import Answer
    from dspex.sandbox.serving.requests import ChatRequest
    from dspex.sandbox.serving.wires import Wire

HUGE_CHARS = 10_000_000
_DROPS = 20
"""In how many pieces a slow answer arrives."""
_ENDLESS_PAUSE_S = 0.01
_PROXY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Call:
    """A request for a completion that the server has seen; its key is not kept."""

    number: int
    model: str
    stream: bool
    mishap: str | None


@dataclass(slots=True)
class Desk:
    """What the routes share."""

    api_key: str | None = None
    """The only key that is taken; None if any is."""
    seed: int = 0
    pace: float = 0.0
    """The share of a simulated answer's latency that is really waited for."""
    plan: Plan = field(default_factory=Plan)
    calls: list[Call] = field(default_factory=list)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    _began: float = field(default_factory=time.monotonic)

    def follow(self, plan: Plan) -> None:
        """Let other things go wrong from now on; calls and seconds are counted anew."""
        self.plan, self._numbers, self._began = plan, itertools.count(), time.monotonic()

    def note(self, request: ChatRequest) -> Mishap | None:
        """Take note of a call, and say what goes wrong with it."""
        number, at_s = next(self._numbers), time.monotonic() - self._began
        mishap = self.plan.hits(number, at_s=at_s, model=request.short_model)
        kind = None if mishap is None else mishap.kind
        self.calls.append(Call(number, request.model, bool(request.stream), kind))
        return mishap

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the server's end."""
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.closing.wait(), seconds)

    def check_key(self, request: Request) -> None:
        """Refuse another key than the one that is taken."""
        if self.api_key is None:
            return
        headers = request.headers
        given = headers.get("authorization", "").removeprefix("Bearer ").strip()
        given = given or headers.get("x-api-key", "") or headers.get("x-goog-api-key", "")
        if not given:
            raise Refused(401, "You didn't provide an API key.", code=None)
        if not hmac.compare_digest(given.encode(), self.api_key.encode()):
            masked = f"{given[:3]}{'*' * 8}{given[-4:]}" if len(given) > 12 else "*" * 8  # noqa: PLR2004  # too short to show any
            raise Refused(401, f"Incorrect API key provided: {masked}.", code="invalid_api_key")


def application(desk: Desk) -> Starlette:
    """Put the routes together."""

    async def chat(request: Request) -> Response:
        return await _answer(request, desk, OPENAI)

    async def messages(request: Request) -> Response:
        return await _answer(request, desk, ANTHROPIC)

    async def contents(request: Request) -> Response:
        model, _, verb = request.path_params["call"].rpartition(":")
        return await _answer(request, desk, gemini.wire_for(model, streams=verb == "streamGenerateContent"))

    async def models(request: Request) -> Response:
        desk.check_key(request)
        return JSONResponse(replies.models())

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok", "simulated": True})

    async def faults(request: Request) -> Response:
        desk.check_key(request)
        if request.method == "PUT":
            desk.follow(_plan(await request.body()))
        return JSONResponse({"fault": desk.plan.state(), "seed": desk.plan.seed})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/messages", messages, methods=["POST"]),
            Route("/v1beta/models/{call:path}", contents, methods=["POST"]),
            Route("/v1/models", models, methods=["GET"]),
            Route("/healthz", health, methods=["GET"]),
            Route("/sandbox/faults", faults, methods=["GET", "PUT"]),
        ],
        exception_handlers={Refused: _refuse, 404: _no_route, 405: _no_route},
    )


async def _answer(request: Request, desk: Desk, wire: Wire) -> Response:
    try:
        desk.check_key(request)
        asked = wire.read(await request.body())
        return await _answered(request, desk, wire, asked)
    except Refused as error:
        return JSONResponse(wire.refusal(error), error.status)


async def _answered(request: Request, desk: Desk, wire: Wire, asked: ChatRequest) -> Response:
    mishap = desk.note(asked)
    if mishap is not None:
        refused = _refused_by(mishap, wire)
        if refused is not None:
            return refused
        if mishap.kind == "hang":
            await _hang(request, desk)
        if mishap.kind in ("hang", "drop"):
            return _gone(request)
        if mishap.kind == "late":
            await desk.pause(mishap.delay_s)
    made = answers(asked, seed=desk.seed)
    await desk.pause(desk.pace * max(each.latency_s for each in made))
    if mishap is not None and mishap.kind == "huge" and not asked.stream:
        made = [replace(made[0], text="x" * HUGE_CHARS, calls=())]
    return _reply(request, asked, made, mishap, desk, wire)


def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse(replies.refusal(error), error.status)


def _no_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    message = f"Invalid URL ({request.method} {request.url.path})"
    return JSONResponse(replies.refusal(Refused(status, message)), status)


def _plan(body: bytes) -> Plan:
    try:
        table = json.loads(body)
        return Plan.of(table.get("fault", []), seed=table.get("seed", 0))
    except (ValueError, AttributeError) as error:
        raise Refused(400, f"A fault plan is a JSON object with a list 'fault': {error}") from None
    except DspexError as error:
        raise Refused(400, str(error)) from None


# ── mishaps ─────────────────────────────────────────────────────────────────────────────────────


def _refused_by(mishap: Mishap, wire: Wire) -> Response | None:
    if mishap.kind == "proxy_page":
        return HTMLResponse(_PROXY_PAGE, 502)
    refused = {
        "rate_limit": Refused(
            429, "Rate limit reached for requests.", kind="requests", code="rate_limit_exceeded"
        ),
        "quota": Refused(
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            kind="insufficient_quota",
            code="insufficient_quota",
        ),
        "server_error": Refused(
            mishap.status, "The server had an error while processing your request.", kind="server_error"
        ),
    }.get(mishap.kind)
    if refused is None:
        return None
    headers = {}
    if mishap.kind == "rate_limit" and mishap.retry_after_s is not None:
        headers["Retry-After"] = f"{mishap.retry_after_s:g}"
    return JSONResponse(wire.refusal(refused), refused.status, headers)


async def _hang(request: Request, desk: Desk) -> None:
    """Say nothing until the client goes, or the server ends."""
    waits = [asyncio.ensure_future(request.receive()), asyncio.ensure_future(desk.closing.wait())]
    _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for each in pending:
        each.cancel()


def _gone(request: Request) -> Response:
    """Reset the connection; whatever is returned reaches nobody."""
    request.state.transport.abort()
    return Response(status_code=500)


def _reply(
    request: Request, asked: ChatRequest, made: list[Answer], mishap: Mishap | None, desk: Desk, wire: Wire
) -> Response:
    envelope = replies.Envelope(f"chatcmpl-{uuid.uuid4().hex[:24]}", int(time.time()), asked.model)
    kind = None if mishap is None else mishap.kind
    if asked.stream:
        parts = _parts_of_stream(envelope, asked, made, kind, wire)
        media_type = "text/event-stream"
    else:
        parts = _parts_of_whole(envelope, made, kind, wire)
        media_type = "application/json"
    if kind in (None, "late", "malformed", "bad_utf8") and not asked.stream:
        return Response(b"".join(parts), media_type=media_type)
    sent = _sent(request, wire.piece(envelope, "and so on "), parts, mishap, desk)
    return StreamingResponse(sent, media_type=media_type, headers={"Cache-Control": "no-cache"})


def _parts_of_whole(
    envelope: replies.Envelope, made: list[Answer], kind: str | None, wire: Wire
) -> list[bytes]:
    value = wire.whole(envelope, made)
    body = json.dumps(value, ensure_ascii=False).encode()
    if kind == "malformed":
        body = body[: len(body) // 2]
    if kind == "bad_utf8":
        body = body.replace(b'"role"', b'"\xff\xfe\xc3": "", "role"')
    if kind == "endless":
        body = body.partition(wire.text_begins)[0] + wire.text_begins
    size = max(1, -(-len(body) // _DROPS))
    return [body[start : start + size] for start in range(0, len(body), size)]


def _parts_of_stream(
    envelope: replies.Envelope, asked: ChatRequest, made: list[Answer], kind: str | None, wire: Wire
) -> list[bytes]:
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage
    parts = list(wire.stream(envelope, made, with_usage))
    middle = max(1, len(parts) // 2)
    if kind == "malformed":
        return [*parts[:middle], b'data: {"id": "chatcmpl-\n\n']
    if kind == "bad_utf8":
        return [
            *parts[:middle],
            parts[min(1, len(parts) - 1)].replace(b'{"', b'{"\xff\xfe\xc3": "", "', 1),
            *parts[middle:],
        ]
    if kind == "huge":
        return [*parts[:1], *[wire.piece(envelope, "x" * (HUGE_CHARS // 100))] * 100, *parts[middle:]]
    return parts[:1] if kind == "endless" else parts


async def _sent(
    request: Request, another: bytes, parts: list[bytes], mishap: Mishap | None, desk: Desk
) -> AsyncIterator[bytes]:
    kind = None if mishap is None else mishap.kind
    pause_s = mishap.delay_s / len(parts) if mishap is not None and kind == "slow" else 0.0
    for number, part in enumerate(parts):
        if kind == "cut" and number >= max(1, len(parts) // 2):
            # What was sent must leave before the reset does.
            await desk.pause(_ENDLESS_PAUSE_S)
            request.state.transport.abort()
            return
        await desk.pause(pause_s)
        # Whoever had enough of it has gone; to go on would fill the log with failed sends.
        if kind == "huge" and await request.is_disconnected():
            return
        yield part
    more = another if parts[0].startswith((b"data:", b"event:")) else b"and so on "
    while kind == "endless" and not desk.closing.is_set() and not await request.is_disconnected():
        yield more
        await desk.pause(_ENDLESS_PAUSE_S)

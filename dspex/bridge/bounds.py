"""Transports that let no answer take longer, or grow larger, than it may."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from dspex.errors import BadResponseError, TimedOutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dspex.bridge.direct import Bounds


class Watch:
    """Counts the seconds and bytes of one answer."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.timeout_s = bounds.seconds_left()
        self._ends = time.monotonic() + self.timeout_s
        self._bytes = 0

    def see(self, chunk: bytes) -> None:
        """Raise if this much is too much."""
        self._bytes += len(chunk)
        if self._bytes > self._bounds.max_bytes:
            raise BadResponseError(
                f"{self._bounds.name} answered with more than {self._bounds.max_bytes:,} bytes",
                provider=self._bounds.name,
                hint="set max_tokens, or allow more with max_bytes=...",
            )
        if time.monotonic() > self._ends:
            raise self.too_late()

    @contextmanager
    def naming_timeouts(self) -> Iterator[None]:
        """Say in our words that nothing came; the client's advice names settings of its own."""
        try:
            yield
        except Exception as error:
            if type(error).__name__ != "ReadTimeout":  # the client keeps its transport's errors private
                raise
            raise self.too_late() from None

    def too_late(self) -> TimedOutError:
        """Say that the time is up."""
        return TimedOutError(
            f"{self._bounds.name} did not finish its answer within {self.timeout_s:.3g} s",
            provider=self._bounds.name,
            hint="give it more time with timeout_s=..., set max_tokens, or add another provider",
        )


class _Watched:
    """An answer that is watched while it arrives; nothing else of it is offered, so nothing slips past."""

    def __init__(self, answer: Any, watch: Watch) -> None:
        self._answer, self._watch = answer, watch
        self.status, self.reason = answer.status, answer.reason
        self.headers, self.http_version = answer.headers, answer.http_version


class WatchedAnswer(_Watched):
    """For a thread that waits."""

    def __enter__(self) -> Self:
        self._answer.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._answer.__exit__(*failure)

    def __iter__(self) -> Iterator[bytes]:
        with self._watch.naming_timeouts():
            for chunk in self._answer:
                self._watch.see(chunk)
                yield chunk

    def read(self) -> bytes:
        """Return all of it."""
        return b"".join(self)


class AsyncWatchedAnswer(_Watched):
    """For an event loop."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._watch.naming_timeouts():
            async for chunk in self._answer:
                self._watch.see(chunk)
                yield chunk

    async def read(self) -> bytes:
        """Return all of it."""
        return b"".join([chunk async for chunk in self])


class BoundedTransport:
    """The client's transport, with bounds on each answer."""

    def __init__(self, transport: Any, bounds: Bounds) -> None:
        self._transport, self._bounds = transport, bounds

    def stream(self, request: Any) -> WatchedAnswer:
        """Send a request, and return its answer as it arrives."""
        watch = Watch(self._bounds)
        request.read_timeout = watch.timeout_s
        with watch.naming_timeouts():
            return WatchedAnswer(self._transport.stream(request), watch)

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()


class AsyncBoundedTransport:
    """The client's transport for event loops, with bounds on each answer."""

    def __init__(self, transport: Any, bounds: Bounds) -> None:
        self._transport, self._bounds = transport, bounds

    def stream(self, request: Any) -> _Opening:
        """Send a request; entering what is returned gives its answer."""
        watch = Watch(self._bounds)
        request.read_timeout = watch.timeout_s
        return _Opening(self._transport.stream(request), watch)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()


class _Opening:
    def __init__(self, opening: Any, watch: Watch) -> None:
        self._opening, self._watch = opening, watch

    async def __aenter__(self) -> AsyncWatchedAnswer:
        with self._watch.naming_timeouts():
            return AsyncWatchedAnswer(await self._opening.__aenter__(), self._watch)

    async def __aexit__(self, *failure: object) -> None:
        await self._opening.__aexit__(*failure)

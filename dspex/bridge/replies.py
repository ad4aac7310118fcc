"""Models' answers, kept by a study: what was paid for once is answered from here, also after a crash.

DSPy asks `dspy.cache` before it calls a model. While a study keeps replies, an object that knows which call
belongs to it stands there; every other call goes on to the cache that stood there before.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import dspy
import orjson
from dspy.clients.cache import Cache
from dspy.clients.call_result import CACHE_FORMAT, attributes
from dspy.clients.legacy_outputs import plain

from dspex.bridge import identity
from dspex.bridge.observe import Stopped
from dspex.bridge.patient import patient
from dspex.bridge.prices import price_of
from dspex.records import Reply, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_POLL_S = 0.05


class Keeper(Protocol):
    """Where replies are kept."""

    def reply(self, key: str) -> Reply | None:
        """Return a reply that was paid for before."""
        ...

    def reply_keys(self) -> set[str]:
        """Return the keys of every reply."""
        ...

    def append_reply(self, study: str, reply: Reply) -> None:
        """Keep a reply, and return when it is safe."""
        ...


class Replies:
    """The replies that one study may use, and those that it pays for.

    Two threads that ask the same at once pay once: the second waits for the first.

    Parameters
    ----------
    study
        Who pays.
    keeper
        Where they are kept.
    stopped
        Whether whoever waits is to give up.
    """

    def __init__(self, study: str, keeper: Keeper, stopped: Callable[[], bool]) -> None:
        self._study = study
        self._keeper = keeper
        self._stopped = stopped
        self._known: dict[str, Mapping[str, Any]] = {}
        self._kept = _keys_of(keeper)
        self._asked: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def find(self, key: str) -> Mapping[str, Any] | None:
        """Return the reply of that key; if None, the caller is the one who asks for it, and must `keep` or `drop` it."""
        while True:
            with self._lock:
                if key in self._known:
                    return self._known[key]
                asked = self._asked.get(key)
                if asked is None:
                    self._asked[key] = threading.Event()
            if asked is None:
                # Most calls are new: the set spares them a look into the store.
                kept = self._keeper.reply(key) if key in self._kept else None
                if kept is None:
                    return None
                self._answered(key, kept.value)
                return kept.value
            while not asked.wait(_POLL_S):
                if self._stopped():
                    raise Stopped

    def keep(self, key: str, model: str, value: Mapping[str, Any]) -> None:
        """Keep what a model has answered."""
        counted = value.get("usage") or {}
        tokens_in = int(counted.get("prompt_tokens") or counted.get("input_tokens") or 0)
        tokens_out = int(counted.get("completion_tokens") or counted.get("output_tokens") or 0)
        usage = Usage(1, tokens_in, tokens_out, price_of(model).cost_usd(tokens_in, tokens_out))
        self._keeper.append_reply(self._study, Reply(key, value, usage))
        self._kept.add(key)
        self._answered(key, value)

    def drop(self, key: str) -> None:
        """Give up on a reply, so that somebody else may ask for it."""
        with self._lock:
            asked = self._asked.pop(key, None)
        if asked is not None:
            asked.set()

    def _answered(self, key: str, value: Mapping[str, Any]) -> None:
        with self._lock:
            self._known[key] = value
        self.drop(key)


_key_sets: weakref.WeakKeyDictionary[Keeper, set[str]] = weakref.WeakKeyDictionary()


def _keys_of(keeper: Keeper) -> set[str]:
    """Return the one set of keys that all studies of a keeper share in this process."""
    keys = _key_sets.setdefault(keeper, set())
    keys |= keeper.reply_keys()
    return keys


class _Asking:
    """A call to a model that is under way: whose it is, and the key it is kept under."""

    def __init__(self, replies: Replies, lm: dspy.BaseLM) -> None:
        self.replies = replies
        self.lm = lm
        self.key: str | None = None


_asking: ContextVar[_Asking | None] = ContextVar("dspex_asking", default=None)


def begin(replies: Replies, lm: dspy.BaseLM) -> None:
    """Note that a call to a model begins, for the cache to know whose it is."""
    _asking.set(_Asking(replies, lm))


def end() -> None:
    """Note that the call is over; an answer that was not kept will not come."""
    asking = _asking.get()
    _asking.set(None)
    if asking is not None and asking.key is not None:
        asking.replies.drop(asking.key)


class _Switch(Cache):  # type: ignore[misc]  # dspy is untyped
    """Stands at `dspy.cache`, and sends each call to its study's replies or to the cache before."""

    def __init__(self, before: Cache) -> None:
        self.before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self.before, name)

    def __contains__(self, key: str) -> bool:
        return key in self.before

    def get(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> Any:
        asking = _asking.get()
        if asking is None:
            return self.before.get(request, ignored_args_for_cache_key)
        key = self.before.cache_key(request, ignored_args_for_cache_key)
        key = identity.digest(key, identity.key_of_engine(asking.lm))
        found = asking.replies.find(key)
        if found is None:
            asking.key = key
            return None
        if found.get("_dspy_format") == CACHE_FORMAT:
            return found
        restored = attributes(found["legacy"])
        restored["cache_hit"] = True
        return restored

    def put(
        self,
        request: dict[str, Any],
        value: Any,
        ignored_args_for_cache_key: list[str] | None = None,
        enable_memory_cache: bool = True,  # DSPy's own signature
    ) -> None:
        asking = _asking.get()
        if asking is None:
            self.before.put(request, value, ignored_args_for_cache_key, enable_memory_cache)
        elif asking.key is not None:
            asking.replies.keep(asking.key, asking.lm.model, _as_json(value))


def _as_json(value: Any) -> Mapping[str, Any]:
    if not (isinstance(value, dict) and value.get("_dspy_format") == CACHE_FORMAT):
        raw = plain(value.model_dump() if hasattr(value, "model_dump") else value)
        value = {"legacy": raw, "usage": raw.get("usage") if isinstance(raw, dict) else None}
    kept: Mapping[str, Any] = orjson.loads(orjson.dumps(value, default=str))
    return kept


_lock = threading.Lock()
_users = 0


def cached(lm: dspy.BaseLM) -> dspy.BaseLM:
    """Return a copy of a model whose replies DSPy looks up before it asks, and whose calls may be answered for."""
    return patient(lm.copy(cache=True))


@contextmanager
def standing() -> Iterator[None]:
    """Let replies answer for calls that were told of by `begin`, while anybody needs it."""
    global _users  # noqa: PLW0603  # as global as the place it stands at
    with _lock:
        _users += 1
        if not isinstance(dspy.cache, _Switch):
            dspy.cache = _Switch(dspy.cache)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and isinstance(dspy.cache, _Switch):
                dspy.cache = dspy.cache.before

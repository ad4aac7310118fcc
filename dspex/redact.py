"""Redaction: keys, tokens and passwords are taken out of whatever is shown, logged or kept."""

from __future__ import annotations

import logging
import os
import re
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HIDDEN = "[redacted]"
_SHORTEST = 8
"""A secret shorter than this could be any word."""
_NAMED_SECRET = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)S?$", re.IGNORECASE)
_SHAPES = re.compile(
    r"""
    \bsk-[\w.-]{8,}
    | \b(?: pk|rk|gsk|xai|pplx|r8|hf|ghp|gho|ghs|glpat|github_pat|nvapi|csk )[-_](?=[\w-]*\d)[\w-]{16,}
    | \bAKIA[0-9A-Z]{16}
    | \bAIza[\w-]{35}
    | \beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*
    """,
    re.VERBOSE,
)
_LABELLED = re.compile(
    r"""
    ( \b(?: bearer|basic ) \s+
    | \b[\w-]*(?: api[-_]?key|access[-_]?key|secret|password|passwd|auth[-_]?token|access[-_]?token|authorization )
        ["']? \s* [:=]>? \s* (?: ["']? (?: bearer|basic ) \s+ )? ["']?
    )
    ( [^\s"',;&)}\]]{8,} )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_IN_ADDRESS = re.compile(r"(\w://[^\s:/@]*:)([^\s@/]+)(@)")

_declared: set[str] = set()
_lock = threading.Lock()
_NONE: frozenset[str] = frozenset()


def declare(secret: str | None) -> None:
    """Have a secret redacted that has no telling shape, such as a key that was passed in code."""
    if secret is not None and len(secret) >= _SHORTEST:
        with _lock:
            _declared.add(secret)


def declared() -> frozenset[str]:
    """Return the secrets that were declared."""
    return frozenset(_declared) if _declared else _NONE


def redact(text: str, *, environment: Mapping[str, str] | None = None) -> str:
    """Take secrets out of a text: those of known shapes, those that are named, and the environment's.

    Parameters
    ----------
    environment
        The variables whose values are secret if their names say so; this process's if left out.

    Examples
    --------
    >>> redact("Incorrect API key provided: sk-proj-abc123def456.")
    'Incorrect API key provided: [redacted]'
    >>> redact("{'Authorization': 'Bearer 0123456789'}")
    "{'Authorization': 'Bearer [redacted]'}"
    >>> redact("asked hunter2hunter2", environment={"MY_API_KEY": "hunter2hunter2"})
    'asked [redacted]'
    """
    for secret in _secrets(os.environ if environment is None else environment):
        if secret in text:
            text = text.replace(secret, HIDDEN)
    text = _SHAPES.sub(HIDDEN, text)
    text = _LABELLED.sub(lambda found: found[1] + HIDDEN, text)
    return _IN_ADDRESS.sub(lambda found: found[1] + HIDDEN + found[3], text)


def scrub(error: BaseException) -> BaseException:
    """Take secrets out of an exception, and of all that led to it, where they are texts; returns it."""
    for each in _chain(error):
        if any(isinstance(part, str) and redact(part) != part for part in each.args):
            each.args = tuple(redact(part) if isinstance(part, str) else part for part in each.args)
        for name, value in list(getattr(each, "__dict__", {}).items()):
            if isinstance(value, str) and redact(value) != value:
                each.__dict__[name] = redact(value)
    return error


def redacted_traceback(error: BaseException) -> str:
    """Write an exception with its stack and causes, as Python does, without the secrets."""
    return redact("".join(traceback.format_exception(error)))


def quiet_logger(name: str) -> logging.Logger:
    """Return a logger whose records hold no secrets, whoever handles them."""
    log = logging.getLogger(name)
    if not any(isinstance(each, _Redacting) for each in log.filters):
        log.addFilter(_Redacting())
    return log


class _Redacting(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info and record.exc_info[1] is not None:
            scrub(record.exc_info[1])
            # Formatters take this text, if it is there, instead of writing the exception again.
            record.exc_text = redacted_traceback(record.exc_info[1]).rstrip()
        return True


def _secrets(environment: Mapping[str, str]) -> list[str]:
    named = {
        value for name, value in environment.items() if len(value) >= _SHORTEST and _NAMED_SECRET.search(name)
    }
    # The longest first: a secret may contain another.
    return sorted(named | _declared, key=len, reverse=True)


def _chain(error: BaseException) -> Iterator[BaseException]:
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [linked for linked in (each.__cause__, each.__context__) if linked is not None]

"""Mishaps on demand: what shall go wrong on the wire, when, and how often."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from dspex.errors import DataError, did_you_mean
from dspex.sandbox.chance import uniform
from dspex.sandbox.world import short_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Kind = Literal[
    "rate_limit",  # 429 with Retry-After
    "quota",  # 429: nothing is left to pay with
    "server_error",  # 5xx with OpenAI's error body
    "proxy_page",  # 502 with a page of HTML, as proxies send it
    "late",  # the answer, some seconds later
    "slow",  # the answer, drop by drop over some seconds
    "hang",  # nothing at all, and the connection stays open
    "drop",  # nothing at all, and the connection is reset
    "cut",  # half of the answer, then the connection is reset
    "malformed",  # JSON that ends too early
    "bad_utf8",  # bytes that are no text
    "huge",  # an answer of 10 MB
    "endless",  # an answer that never ends
]
_KINDS: tuple[str, ...] = get_args(Kind)
_WINDOW = 2


@dataclass(frozen=True, slots=True)
class Mishap:
    """One thing that goes wrong; every condition must hold."""

    kind: Kind
    share: float = 1.0
    """Of the calls that meet the other conditions."""
    calls: tuple[float, float] | None = None
    """Only calls from this number, the first being 0, to the one before that."""
    seconds: tuple[float, float] | None = None
    """Only between these seconds after the server's start, or after the plan was set."""
    model: str | None = None
    """Only this one."""
    retry_after_s: float | None = 2.0
    """What a `rate_limit` says; None for one that says nothing."""
    status: int = 503
    """What a `server_error` says."""
    delay_s: float = 1.0
    """How much longer a `late` or `slow` answer takes."""

    def meets(self, call: int, at_s: float, model: str) -> bool:
        """Whether the conditions hold, chance aside."""
        return (
            (self.calls is None or self.calls[0] <= call < self.calls[1])
            and (self.seconds is None or self.seconds[0] <= at_s < self.seconds[1])
            and (self.model is None or short_name(self.model) == model)
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall go wrong; of several mishaps that could hit a call, the first does.

    Examples
    --------
    >>> plan = Plan.of([{"kind": "hang", "calls": [2, 4]}, {"kind": "late", "model": "large"}])
    >>> [mishap and mishap.kind for mishap in (plan.hits(n, at_s=0, model="large") for n in range(4))]
    ['late', 'late', 'hang', 'hang']
    """

    mishaps: tuple[Mishap, ...] = ()
    seed: int = 0

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], *, seed: int = 0) -> Plan:
        """Read mishaps from plain data.

        Raises
        ------
        DataError
            With everything that is wrong with them.
        """
        failures = [
            f"fault {number}: {failure}" for number, row in enumerate(rows) for failure in _failures(row)
        ]
        if failures:
            raise DataError(
                "\n".join(["this fault plan cannot be followed:", *(f"  - {each}" for each in failures)]),
                hint=f"kinds are {', '.join(_KINDS)}",
            )
        return cls(tuple(map(_mishap, rows)), seed)

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a TOML file: a ``[[fault]]`` for each mishap, and perhaps a ``seed``.

        Raises
        ------
        DataError
            If there is no such file, or it holds no plan.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is not TOML: {error}") from error
        strange = sorted(set(table) - {"fault", "seed"})
        if strange:
            raise DataError(
                f"{path} has {', '.join(strange)}; a fault plan has [[fault]] tables and a seed",
                hint='[[fault]]\nkind = "rate_limit"\nshare = 0.1',
            )
        return cls.of(table.get("fault", []), seed=table.get("seed", 0))

    def state(self) -> list[dict[str, Any]]:
        """Describe the mishaps as JSON."""
        return [asdict(mishap) for mishap in self.mishaps]

    def hits(self, call: int, *, at_s: float, model: str) -> Mishap | None:
        """Say what goes wrong with this call, if anything does; the same every time.

        Parameters
        ----------
        call
            Its number, the first being 0.
        model
            A short name, such as "small".
        """
        for number, mishap in enumerate(self.mishaps):
            is_hit = mishap.share >= 1 or uniform(self.seed, number, call, mishap.kind) < mishap.share
            if is_hit and mishap.meets(call, at_s, model):
                return mishap
        return None


def _mishap(row: Mapping[str, Any]) -> Mishap:
    settings: dict[str, Any] = dict(row)
    for name in ("calls", "seconds"):
        if settings.get(name) is not None:
            settings[name] = tuple(settings[name])
    return Mishap(**settings)


def _failures(row: Mapping[str, Any]) -> list[str]:
    known = [each.name for each in fields(Mishap)]
    found = [
        f"unknown setting {name!r}; {did_you_mean(name, known) or 'known: ' + ', '.join(known)}"
        for name in row
        if name not in known
    ]
    kind = row.get("kind")
    if kind not in _KINDS:
        found.append(f"unknown kind {kind!r}; {did_you_mean(str(kind), _KINDS) or 'see below'}")
    for name, low, high in (
        ("share", 0, 1),
        ("retry_after_s", 0, 3600),
        ("delay_s", 0, 3600),
        ("status", 500, 599),
    ):
        value = row.get(name, low)
        if not (_is_number(value) and low <= value <= high) and not (
            name == "retry_after_s" and value is None
        ):
            found.append(f"{name} must lie between {low} and {high}, got {value!r}")
    for name in ("calls", "seconds"):
        window = row.get(name)
        if window is not None and not _is_window(window):
            found.append(f"{name} must be two numbers, the second not below the first, got {window!r}")
    try:
        short_name(row.get("model") or "small")
    except KeyError as error:
        found.append(str(error).replace("\n  → ", "; "))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_window(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == _WINDOW
        and all(map(_is_number, value))
        and value[0] <= value[1]
    )

"""The programs that an optimizer of DSPy has tried: their rows, what is believed of them, and where they came from."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dspex.records import Candidate, Configuration, Score, ScoreKey, TrialPhase, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dspex.bridge.identity import Said

_PRIOR_EXAMPLES = 4
"""A program seen on few examples is believed to be like the first one, as if it had been seen on so many more."""
_SHOWN_CHARS = 160


@dataclass
class Tried:
    """A program that the optimizer has tried."""

    number: int
    candidate: Candidate
    said: Sequence[Said]
    phase: TrialPhase
    began: float = field(default_factory=time.time)
    rows: dict[ScoreKey, Score] = field(default_factory=dict)
    paid: Usage = field(default_factory=Usage)
    seen_at: int = 0
    is_open: bool = True
    labels: Configuration = field(default_factory=dict)
    """What was varied beside what it says."""

    @property
    def configuration(self) -> Configuration:
        """Say in a few words what it is."""
        return {**self.labels, **configuration_of(self.candidate)}

    @property
    def scores(self) -> list[float]:
        """The mean score of each example."""
        by_example: dict[str, list[float]] = {}
        for row in self.rows.values():
            by_example.setdefault(row.example_key, []).append(row.score)
        return [sum(each) / len(each) for _, each in sorted(by_example.items())]


def believed(scores: Sequence[float], usual: float) -> float:
    """Return the mean that a program is believed to have, drawn towards the usual one.

    Examples
    --------
    >>> believed([1.0], 0.5), believed([0.75] * 12, 0.5)
    (0.6, 0.6875)
    """
    return (sum(scores) + _PRIOR_EXAMPLES * usual) / (len(scores) + _PRIOR_EXAMPLES)


def configuration_of(candidate: Candidate) -> Configuration:
    """Say in a few words what a program is: its instructions and how many demonstrations it shows."""
    texts = candidate.instructions
    text = next(iter(texts.values()), "")
    if len(texts) > 1:
        text = " | ".join(f"{name}: {each}" for name, each in texts.items())
    short = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
    return {"instructions": short, "demos": candidate.n_demos}


def nearest(candidate: Candidate, earlier: Iterable[Candidate]) -> str | None:
    """Return the earlier candidate that shares most with this one; the first of equals."""
    return max(earlier, key=lambda each: _likeness(candidate, each), default=_NOBODY).key or None


_NOBODY = Candidate("", 0, {}, {})


def _likeness(one: Candidate, other: Candidate) -> float:
    """Count shared demonstrations, and how far instructions begin alike."""
    found = 0.0
    for name, text in one.instructions.items():
        theirs = other.instructions.get(name, "")
        same = next(
            (k for k, pair in enumerate(zip(text, theirs, strict=False)) if pair[0] != pair[1]),
            min(len(text), len(theirs)),
        )
        found += 2 * same / max(len(text) + len(theirs), 1)
        demos, others = _texts(one.demos, name), _texts(other.demos, name)
        found += 2 * len(demos & others) / max(len(demos) + len(others), 1)
    return found


def _texts(demos: Mapping[str, Any], name: str) -> set[str]:
    return {repr(sorted(demo.items())) for demo in demos.get(name, ())}


def why_no_demos(tried: Iterable[Tried], needed: float | None) -> str:
    """Say why a bootstrap came back with nothing; `needed` is the score that was asked for."""
    rows = [row for each in tried if each.phase == "bootstrap" for row in each.rows.values()]
    failed = [row for row in rows if row.error is not None]
    said = [f"no demonstration was bootstrapped from {len(rows)} attempts"]
    if failed:
        said.append(f"{len(failed)} failed ({last_line(failed[-1].error)})")
    if len(rows) > len(failed):
        best = max(row.score for row in rows if row.error is None)
        wanted = "above 0" if needed is None else f"of {needed:g}"
        said.append(f"{len(rows) - len(failed)} scored less than a score {wanted}, the best {best:g}")
    return ", ".join(said)


def last_line(error: str | None) -> str:
    """Return the line that names the exception, of a traceback or of what is told in its place."""
    lines = [line for line in (error or "").splitlines() if line and not line.startswith(" ")]
    return lines[-1] if lines else ""

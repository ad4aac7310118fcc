"""What Tab offers in a ``%dspex`` line and in the body of a ``%%dspex`` cell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.core.completer import SimpleCompletion, context_matcher

from dspex import sandbox
from dspex.bridge import program
from dspex.native import metrics, types
from dspex.notebook import magics
from dspex.optimizers import SEARCHES
from dspex.optimizers.teleprompters import TELEPROMPTERS
from dspex.orchestrator.policy import OBJECTIVES
from dspex.variables import views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from IPython.core.completer import CompletionContext, SimpleMatcherResult

_FRAGMENT = re.compile(r"[\w./:%-]*$")
_MAGIC = re.compile(r"(?:^|=)\s*(%{1,2})dspex\b(?P<rest>.*)$")


class Offer(NamedTuple):
    """What may stand at the cursor, and the fragment that is written already."""

    fragment: str
    words: list[str]


def offer(text: str, names: Mapping[str, Any]) -> Offer | None:
    r"""Say what fits at the end of `text`, a cell up to its cursor; None outside of dspex's magics.

    Examples
    --------
    >>> offer("%dspex hi", {}).words
    ['history']
    >>> offer("%%dspex space S\ntone: ch", {}).words
    ['choice']
    """
    first, _, body = text.partition("\n")
    line = text.rpartition("\n")[2]
    opening = _MAGIC.search(first if body or text.endswith("\n") else line)
    if opening is None:
        # A line magic may stand on any line of a cell.
        opening = _MAGIC.search(line)
        body = ""
    if opening is None:
        return None
    in_cell = opening[1] == "%%" and "\n" in text
    found = _in_cell(opening["rest"], body) if in_cell else _in_line(_MAGIC.search(line), names)
    if found is None:
        return None
    fragment = _fragment(line)
    return Offer(fragment, sorted({word for word in found if word.startswith(fragment)}))


def load(shell: Any) -> None:
    """Add the completion to a shell; doing it twice changes nothing."""
    unload(shell)
    completer = getattr(shell, "Completer", None)
    if completer is not None:
        completer.custom_matchers.append(_matcher_for(shell))


def unload(shell: Any) -> None:
    """Take it away."""
    completer = getattr(shell, "Completer", None)
    if completer is not None:
        completer.custom_matchers[:] = [
            each for each in completer.custom_matchers if getattr(each, "matcher_identifier", "") != "dspex"
        ]


def _matcher_for(shell: Any) -> Callable[[CompletionContext], SimpleMatcherResult]:
    @context_matcher(identifier="dspex", priority=80)  # type: ignore[untyped-decorator]  # IPython's
    def complete(context: CompletionContext) -> SimpleMatcherResult:
        # The cursor is counted within its line.
        lines = context.full_text.split("\n")[: context.cursor_line + 1]
        lines[-1] = lines[-1][: context.cursor_position]
        found = offer("\n".join(lines), shell.user_ns)
        if found is None:
            return {"completions": []}
        return {
            "completions": [SimpleCompletion(text=word, type="dspex") for word in found.words],
            "matched_fragment": found.fragment,
            "suppress": bool(found.words),
        }

    matcher: Callable[[CompletionContext], SimpleMatcherResult] = complete
    return matcher


def _in_line(opening: re.Match[str] | None, names: Mapping[str, Any]) -> Iterable[str] | None:
    if opening is None:
        return None
    words = opening["rest"][: len(opening["rest"]) - len(_fragment(opening["rest"]))].split()
    if not words:
        return magics.COMMANDS
    command, previous = words[0], words[-1]
    if command not in magics.COMMANDS:
        return None
    mine = [name for name in names if not name.startswith("_")]
    values: dict[str, Iterable[str]] = {
        "--metric": [*metrics.NAMED, *mine],
        "--objective": OBJECTIVES,
        "--optimizer": [*SEARCHES, *TELEPROMPTERS],
        "--space": mine,
        "--train": mine,
        "--val": mine,
    }
    if previous in values:
        return values[previous]
    options = magics.options_of(command)
    if command == "lm":
        return [*options, *sandbox.MODELS, *mine]
    return [*options, *mine]


def _in_cell(rest: str, body: str) -> Iterable[str] | None:
    command = rest.split(maxsplit=1)[0] if rest.split() else ""
    if command == "space":
        return views.expected(body, models=sandbox.MODELS, modules=program.module_names())
    if command == "signature" and re.search(r":[^,>\n]*$", body):
        return types.KNOWN
    return None


def _fragment(line: str) -> str:
    found = _FRAGMENT.search(line)
    return found[0] if found else ""

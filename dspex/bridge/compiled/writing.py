"""Functions written for one signature: field names and the words around the values stand in their source.

A loop over fields costs more than what it writes. Each function here is one f-string, with a line or two
before it for every value.
"""

from __future__ import annotations

from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.bridge.compiled.source import indented, literal, made
from dspex.bridge.compiled.values import member_text, member_writers, text_of, writers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Pair = Callable[[Mapping[str, Any]], tuple[str, str] | None]


_NAMES = {"known": writers.get, "known_member": member_writers.get, "quoted": encode_basestring}
_BY_TYPE = {text_of: "known", member_text: "known_member"}


class Slot(NamedTuple):
    """A field: its name, the words before and after its value, and how the value becomes text.

    Values of the exact type `kind` are put in as they print, or as the expression `shown` says; all others,
    and all where there is no such type, as `write` gives them.
    """

    name: str
    head: str
    write: Callable[[Any], str]
    tail: str = ""
    kind: type | None = str
    shown: str = ""


class Frame(NamedTuple):
    """What stands before all fields, between two of them, and after all of them, once the ends are stripped."""

    opening: str = ""
    between: str = "\n\n"
    closing: str = ""


def request_writer(
    slots: Sequence[Slot], ending: str, otherwise: Callable[[Any], str]
) -> Callable[[Any], str]:
    r"""Return what writes a request from a dict of values; `otherwise` does it where a value is missing.

    Examples
    --------
    >>> write = request_writer([Slot("a", "a: ", text_of), Slot("n", "n: ", text_of, kind=int)], "!", str)
    >>> write({"a": "x", "n": 3})
    'a: x\n\nn: 3\n\n!'
    """
    taken = [f"v{k} = values[{slot.name!r}]" for k, slot in enumerate(slots)] or ["pass"]
    lines = [
        "def write(values):",
        *indented(["try:", *indented(taken), "except KeyError:", *indented(["return otherwise(values)"])]),
    ]
    for k, slot in enumerate(slots):
        lines += indented(_conversion(f"v{k}", f"write{k}", slot, may_lack=False))
    parts = [_shown(f"v{k}", slot) for k, slot in enumerate(slots)]
    lines += indented([f"return {_f_string('', [*parts, literal(ending)], Frame())}"])
    found: Callable[[Any], str] = _made(lines, slots, {"otherwise": otherwise})
    return found


def pair_writer(inputs: Sequence[Slot], outputs: Sequence[Slot], answer: Frame) -> Pair:
    """Return what writes a demo's two messages from its dict, or None if a field is missing or None.

    Examples
    --------
    >>> write = pair_writer([Slot("q", "q: ", text_of)], [Slot("a", "a: ", text_of)], Frame(closing="."))
    >>> write({"q": "why", "a": 7}), write({"q": "why", "a": None})
    (('q: why', 'a: 7.'), None)
    """
    slots = [*inputs, *outputs]
    lines = ["def write(values):", *indented(["get = values.get"])]
    for k, slot in enumerate(slots):
        lines += indented([f"v{k} = get({slot.name!r})"])
        lines += indented(_conversion(f"v{k}", f"write{k}", slot, may_lack=True))
    parts = [_shown(f"v{k}", slot) for k, slot in enumerate(slots)]
    asked = _f_string("", parts[: len(inputs)], Frame())
    answered = _f_string(answer.opening, parts[len(inputs) :], answer)
    closing = f" + {answer.closing!r}" if answer.closing else ""
    lines += indented([f"return {asked}.strip(), {answered}.strip(){closing}"])
    found: Pair = _made(lines, slots, {})
    return found


def _made(lines: list[str], slots: Sequence[Slot], names: dict[str, Any]) -> Any:
    writes = {f"write{k}": slot.write for k, slot in enumerate(slots)}
    return made(lines, {**_NAMES, **names, **writes})


def _conversion(value: str, write: str, slot: Slot, *, may_lack: bool) -> list[str]:
    """Return the lines that turn a variable's value into what its place in the f-string takes."""
    if slot.write in _BY_TYPE:
        write = f"({_BY_TYPE[slot.write]}(type({value})) or {write})"
    lines = [f"if {value} is None: return None"] if may_lack else []
    lines += [f"{value} = {write}({value})"]
    if slot.kind is None:
        return lines
    if slot.shown:
        shown = slot.shown.format(v=value)
        return [
            f"if type({value}) is {slot.kind.__name__}: {value} = {shown}",
            "else:",
            *indented(lines),
        ]
    return [f"if type({value}) is not {slot.kind.__name__}:", *indented(lines)]


def _shown(value: str, slot: Slot) -> str:
    conversion = "" if slot.kind in (str, int) else "!s"  # spares a number the look for its `__format__`
    return f"{literal(slot.head)}{{{value}{conversion}}}{literal(slot.tail)}"


def _f_string(opening: str, parts: Sequence[str], frame: Frame) -> str:
    return f"f'{literal(opening)}{literal(frame.between).join(parts)}'"

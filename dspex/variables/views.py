"""A space as data to look at and to fill in: a table's rows, a form's fields, and what a text may go on with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dspex.variables import grammar
from dspex.variables.choice import Bool, Choice
from dspex.variables.formulas import Composite
from dspex.variables.numeric import Float, Int
from dspex.variables.online import Online

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dspex.variables.protocol import Conditions, Variable
    from dspex.variables.space import Space

_NAMED = re.compile(r"\s*([A-Za-z_][\w.]*)\s*:")

Widget = Literal["slider", "log_slider", "whole_slider", "checkbox", "dropdown", "text"]


class Row(NamedTuple):
    """One definition, or one constraint, as words."""

    name: str
    kind: str
    values: str
    default: str
    when: str
    notes: str


class Entry(NamedTuple):
    """One field of a form.

    Attributes
    ----------
    options
        What a dropdown offers.
    settings
        ``min``, ``max`` and ``step`` of a slider.
    when
        Under which entries of other fields it is shown.
    """

    name: str
    widget: Widget
    value: Any
    options: Sequence[Any]
    settings: Mapping[str, float]
    when: Conditions
    description: str


def table(space: Space) -> list[Row]:
    """Return a row for each definition, then one for each constraint.

    Examples
    --------
    >>> from dspex.variables.space import Space
    >>> table(Space(penalty=Float(0.01, 1.0, log=True)))
    [Row(name='penalty', kind='float', values='0.01 .. 1.0', default='0.1', when='', notes='log')]
    """
    rows = [_row(name, each, space.frozen) for name, each in space.definitions.items()]
    return rows + [
        Row(each.name, "constraint", each.formula.text or ", ".join(each.reads), "", "", "")
        for each in space.constraints
    ]


def form(space: Space) -> list[Entry]:
    """Return a field for each variable that is searched, in their order.

    Examples
    --------
    >>> from dspex.variables.space import Space
    >>> (entry,) = form(Space(temperature=Float(0, 1.5, default=0.7)))
    >>> entry.widget, entry.value, entry.settings
    ('slider', 0.7, {'min': 0.0, 'max': 1.5})
    """
    return [
        Entry(name, *_field(variable), when=variable.when, description=_row(name, variable, {}).values)
        for name, variable in space.items()
    ]


def expected(text: str, *, models: Iterable[str] = (), modules: Iterable[str] = ()) -> list[str]:
    r"""Return what may stand at the end of a space that is being written; empty where anything may.

    Examples
    --------
    >>> expected("n: int = 1 .. 4\nm: int = 1 .. 5 (st")
    ['default', 'log', 'prior', 'step']
    >>> expected("strict: bool\nn: int = 1 .. 4 when ")
    ['strict']
    """
    *above, line = text.split("\n")
    if re.search(r"(^\s*(require|freeze)|\s(when|and))\s+[\w.]*$", line):
        return [found[1] for each in above if (found := _NAMED.match(each))]
    stands = _NAMED.match(line)
    if stands is None:
        return ["freeze", "require"] if line.strip() else []
    kind, is_valued, rest = line[stands.end() :].partition("=")
    kind, is_bracketed, _ = kind.partition("(")
    if line.count("(") > line.count(")"):
        return grammar.options(kind.strip())
    if not (is_valued or is_bracketed):
        return grammar.kinds()
    labels = {"adapter": ("chat", "json", "xml"), "model": models, "module": modules}
    if re.search(r"(^|\|)\s*[^\s|]*$", rest):
        return list(labels.get(kind.strip(), ()))
    return ["when"]


def _row(name: str, each: Variable | Composite, frozen: Mapping[str, Any]) -> Row:
    when, kind = grammar.condition_text(each.when), getattr(each, "kind", type(each).__name__)
    if isinstance(each, Online):
        adapting = _row(name, each.variable, frozen)
        return adapting._replace(kind=f"{adapting.kind}, online")
    if isinstance(each, Composite):
        return Row(name, kind, each.formula.text or ", ".join(each.reads), "", when, "computed")
    values, options = grammar.said(each)
    notes = [note for note in options if note and not note.startswith("default ")]
    notes += [unit for unit in [getattr(each, "unit", "")] if unit]
    notes += [f"frozen at {frozen[name]}"] if name in frozen else []
    return Row(name, kind, values, _short(each.default), when, ", ".join(notes))


def _field(variable: Variable) -> tuple[Widget, Any, list[Any], dict[str, float]]:
    if isinstance(variable, Online):
        return _field(variable.variable)
    if isinstance(variable, (Float, Int)):
        step = {} if variable.step is None else {"step": variable.step}
        widget: Widget = (
            "log_slider" if variable.log else "slider" if isinstance(variable, Float) else "whole_slider"
        )
        return widget, variable.default, [], {"min": variable.low, "max": variable.high, **step}
    if isinstance(variable, Bool):
        return "checkbox", variable.default, [], {}
    if isinstance(variable, Choice):
        return "dropdown", variable.default, list(variable.options), {}
    return "text", variable.default, [], {}


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value) if not isinstance(value, list) else f"{len(value)} numbers"

"""Prompt templates: Jinja2 in a sandbox, read once, and strict about the values they are filled with."""

from __future__ import annotations

import functools
import json
import re
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from dspex.errors import TemplateError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import jinja2
    from jinja2 import nodes
    from jinja2.sandbox import SandboxedEnvironment

_KEPT = 256
_OPTIONAL_TESTS = frozenset({"defined", "undefined"})
_OPTIONAL_FILTERS = frozenset({"default", "d"})
# What Jinja2's messages quote as the culprit; the last one is the one that was found.
_CULPRIT = re.compile(r"(?:unexpected|got|named|unknown tag) '([^']+)'")


class Template:
    """A text with places to fill in. Make one with `template`.

    Attributes
    ----------
    text
        The template as it was written.
    names
        The values it needs, in the order in which they first stand there.
    optional
        Values that it can do without, because it asks ``is defined`` or gives a ``default``.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        read = _read(text)
        self.names, self.optional = read.names, read.optional
        self._read = read

    def __repr__(self) -> str:
        return (
            f"<Template: {', '.join([*self.names, *(f'{name}?' for name in self.optional)]) or 'no names'}>"
        )

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Template) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[type[Template], tuple[str]]:
        return type(self), (self.text,)  # what Jinja2 made of the text cannot be pickled

    def render(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> str:
        """Fill the template in.

        Parameters
        ----------
        values
            Values by name; it may hold more than the template needs, so that an example's fields can be passed.
        **named
            Values by name; these are written out by hand, so one that the template does not know is an error.

        Raises
        ------
        TemplateError
            If values are missing (all are listed), one is not known, or an attribute or key that the template
            names is not there or may not be reached.
        """
        given = {**values, **named} if values else named
        names = self._read.names
        if any(name not in given for name in names) or any(name not in self._read.known for name in named):
            raise _mismatch(self, given, named)
        try:
            return self._read.compiled.render(given)
        except TemplateError as error:
            raise _located(self.text, error) from None


def template(text: str | Template) -> Template:
    r"""Read a prompt template, in Jinja2's language: ``{{ name }}``, ``{% for %}``, ``{% if %}``, ``| filter``.

    A line that holds only a ``{% tag %}`` leaves no line behind; nothing is escaped. Beside Jinja2's own filters
    there are ``json`` (as JSON, readable), ``bullets`` and ``numbered`` (a list, one item a line), and ``quote``
    (every line behind ``>``). The template cannot change the values, and reaches nothing that begins with ``_``;
    but it may take as long as it likes, so it is no cage for a stranger's template.

    Raises
    ------
    TemplateError
        If it cannot be read; a caret stands under the place.

    Examples
    --------
    >>> ask = template("Sort the message: {{ ', '.join(labels) }}.\n{{ message | quote }}")
    >>> ask.names
    ('labels', 'message')
    >>> print(ask.render(labels=["bug", "question"], message="It broke."))
    Sort the message: bug, question.
    > It broke.
    """
    if isinstance(text, Template):
        return text
    if not isinstance(text, str):
        raise TemplateError(f"a template is a text, got {text!r}", hint="template('Answer {{ question }}')")
    return Template(text)


class _Read(NamedTuple):
    """What is known of a template's text."""

    compiled: jinja2.Template
    names: tuple[str, ...]
    optional: tuple[str, ...]
    known: frozenset[str]


@functools.lru_cache(maxsize=_KEPT)
def _read(text: str) -> _Read:
    import jinja2

    environment = _environment()
    try:
        tree = environment.parse(text)
        _check(text, tree)
        compiled = environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise _unreadable(text, error) from error
    names, optional = _names(tree)
    return _Read(compiled, names, optional, frozenset((*names, *optional)))


@functools.cache
def _environment() -> SandboxedEnvironment:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, autoescape=False, undefined=_undefined_class()
    )
    environment.filters |= _FILTERS
    return environment


# ── names ───────────────────────────────────────────────────────────────────────────────────────


def _names(tree: nodes.Template) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names a template needs, and those it can do without, each in the order of appearance."""
    from jinja2 import meta, nodes

    free = meta.find_undeclared_variables(tree) - set(_environment().globals)
    ordered = [name.name for name in tree.find_all(nodes.Name) if name.name in free]
    optional = {
        each.node.name
        for each in tree.find_all((nodes.Test, nodes.Filter))
        if isinstance(each.node, nodes.Name)
        and each.name in (_OPTIONAL_TESTS if isinstance(each, nodes.Test) else _OPTIONAL_FILTERS)
    }
    # A name that some branch sets has a value where that branch is taken.
    optional |= {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    in_order = tuple(dict.fromkeys(ordered))
    return (
        tuple(name for name in in_order if name not in optional),
        tuple(name for name in in_order if name in optional),
    )


def _mismatch(given_to: Template, given: Mapping[str, Any], named: Mapping[str, Any]) -> TemplateError:
    """Say all that is wrong with the values at once."""
    missing = [name for name in given_to.names if name not in given]
    known = [*given_to.names, *given_to.optional]
    unknown = [name for name in named if name not in known]
    said = [f"missing: {', '.join(missing)}"] if missing else []
    said += [f"unknown: {', '.join(unknown)}"] if unknown else []
    # What was given under a wrong name is most likely one of those still missing.
    spare = [name for name in given if name not in known]
    guesses = [(name, did_you_mean(name, missing or known)) for name in spare]
    hints = [f"{name}: {guess}" for name, guess in guesses if guess]
    return TemplateError(
        f"the template needs {', '.join(given_to.names) or 'no value'}; {'; '.join(said)}",
        hint="; ".join(hints) or f"render({', '.join(f'{name}=...' for name in given_to.names)})",
    )


def _located(text: str, error: TemplateError) -> TemplateError:
    """Say in which line it was; Jinja2 leaves the template's own lines in the traceback."""
    lines = [
        line
        for frame, line in traceback.walk_tb(error.__traceback__)
        if "__jinja_exception__" in frame.f_globals
    ]
    quoted = re.search(r"'([^']+)'", error.message)
    return _at(text, lines[-1], quoted and quoted.group(1), error.message, error.hint) if lines else error


# ── what cannot be read ─────────────────────────────────────────────────────────────────────────


def _unreadable(text: str, error: jinja2.TemplateSyntaxError) -> TemplateError:
    message = (error.message or "it cannot be read").rstrip(".")
    culprits = _CULPRIT.findall(message)
    return _at(text, error.lineno, culprits[-1] if culprits else None, message)


def _check(text: str, tree: nodes.Template) -> None:
    """Refuse what could only fail when it is rendered."""
    from jinja2 import nodes

    for kind, known in (("filter", _environment().filters), ("test", _environment().tests)):
        for each in tree.find_all(nodes.Filter if kind == "filter" else nodes.Test):
            # Jinja2 itself looks only outside of conditions.
            if each.name not in known:
                hint = did_you_mean(each.name, known)
                raise _at(text, each.lineno, each.name, f"no {kind} is named {each.name!r}", hint)
    for node in tree.find_all((nodes.Getattr, nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        if not isinstance(node, nodes.Getattr):
            message = "a template is one text, it cannot include, import or extend another"
            raise _at(text, node.lineno, type(node).__name__.removeprefix("From").lower(), message)
        if node.attr.startswith("_"):
            message = f"a template may not reach {node.attr!r}: it begins with '_'"
            raise _at(text, node.lineno, node.attr, message)


def _at(
    text: str, line_number: int, culprit: str | None, message: str, hint: str | None = None
) -> TemplateError:
    """Point at the culprit in a line, or at the line's first character where it is not known."""
    lines = text.splitlines(keepends=True) or [""]
    index = min(line_number, len(lines)) - 1
    line = lines[index]
    column = line.find(culprit) if culprit is not None else -1
    if column < 0:
        column = len(line) - len(line.lstrip())
    start = sum(map(len, lines[:index]))
    return TemplateError.at(text, start + column, f"line {line_number}: {message}", hint=hint)


@functools.cache
def _undefined_class() -> type[jinja2.Undefined]:
    """Make the class of what is not there: any use of it is our error, with the nearest name that is there."""
    import jinja2

    def fail(self: Any, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise _absent(self._undefined_obj, self._undefined_name, self._undefined_exception)

    # Every use that Jinja2 makes an error, made ours.
    uses = {**vars(jinja2.Undefined), **vars(jinja2.StrictUndefined)}
    failing = [name for name, value in uses.items() if value is jinja2.Undefined._fail_with_undefined_error]  # noqa: SLF001  # the protocol to override
    names = ["_fail_with_undefined_error", *failing]
    return type("Absent", (jinja2.StrictUndefined,), {"__slots__": (), **dict.fromkeys(names, fail)})


def _absent(owner: Any, name: Any, kind: type[Exception]) -> TemplateError:
    from jinja2.exceptions import SecurityError
    from jinja2.utils import missing

    if issubclass(kind, SecurityError):
        return TemplateError(
            f"a template may not reach {name!r} of {_kind(owner)}", hint="pass it as a value of its own"
        )
    if owner is missing:  # a name that only some branch of the template sets
        return TemplateError(f"{name!r} has no value where the template uses it")
    known = [str(each) for each in _within(owner)]
    there = f"; it has {', '.join(known[:10])}" if known else ""
    return TemplateError(f"{_kind(owner)} has no {name!r}{there}", hint=did_you_mean(str(name), known))


def _within(owner: Any) -> Iterable[str]:
    """Return what may be reached in a value: keys or public attributes."""
    if hasattr(owner, "keys"):
        return list(owner.keys())
    return [each for each in getattr(owner, "__dict__", {}) if not each.startswith("_")]


def _kind(owner: Any) -> str:
    return f"a value ({type(owner).__name__})"


# ── filters ─────────────────────────────────────────────────────────────────────────────────────


def _json(value: Any, indent: int | None = None) -> str:
    """Write JSON for a model to read; Jinja2's own ``tojson`` writes it for a web page."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


def _bullets(items: Iterable[Any], mark: str = "-") -> str:
    return "\n".join(f"{mark} {item}" for item in items)


def _numbered(items: Iterable[Any], start: int = 1) -> str:
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, start))


def _quote(text: Any) -> str:
    return "\n".join(_quoted(str(text)))


def _quoted(text: str) -> Iterator[str]:
    for line in text.splitlines() or [""]:
        yield f"> {line}".rstrip()


_FILTERS: dict[str, Callable[..., str]] = {
    "bullets": _bullets,
    "json": _json,
    "numbered": _numbered,
    "quote": _quote,
}

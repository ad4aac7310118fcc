"""``%dspex`` and ``%%dspex``: each sub-command parses its line, calls the public function, and returns its value."""

from __future__ import annotations

import ast
import shlex
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope, no_var_expand

from dspex import session
from dspex.cli import Parser, add_search_options, search_options
from dspex.errors import DefinitionError, SignatureError, UnknownNameError
from dspex.native import metrics
from dspex.native.signature import Signature, signature
from dspex.notebook import display
from dspex.variables.space import Space

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    import pandas as pd

    from dspex.optimizers.study import Study
    from dspex.orchestrator.insights import Route
    from dspex.runtime import Runtime

Names = dict[str, Any]
"""The notebook's variables: options name them, and a definition binds its own."""

_USAGE = """
%dspex runs a dspex command; every command returns its value and has a Python twin.

  %dspex lm [MODEL ...]                            dx.configure(models=[...])
  %dspex signature 'question -> answer'            dx.signature("question -> answer")
  %%dspex signature Name   (spec and docstring)    Name = dx.signature(..., name="Name")
  %%dspex space Name       (one variable a line)   Name = dx.Space.parse(...)
  %dspex optimize Name --space S --train data      dx.optimize(Name, space=S, trainset=data, ...)
  %dspex runs                                      dx.runs()
  %dspex route [Name]                              dx.route(Name)
  %dspex history [-n 20]                           dx.history(20)

study = %dspex optimize ...   takes the value; %dspex COMMAND -h shows a command's options.
"""


@magics_class
class DspexMagics(Magics):
    """The magics of one shell."""

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    def dspex(self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Run a dspex command; ``%dspex -h`` lists them."""
        words = _words(line)
        if not words or words[0] in {"-h", "--help"}:
            print(_USAGE)  # noqa: T201  # help is for reading
            return None
        name = words[0]
        if name not in COMMANDS:
            raise UnknownNameError.among("command", name, COMMANDS)
        if "-h" in words[1:] or "--help" in words[1:]:
            print(_PARSERS[name].format_help())  # noqa: T201  # as above
            return None
        given = _PARSERS[name].parse_args(words[1:])
        shell: Any = self.shell
        value, bound = COMMANDS[name](given, cell, {**shell.user_ns, **(local_ns or {})})
        if bound is not None:
            shell.push({bound: value})
        return value


def load(shell: Any) -> None:
    """Add the magics and their completion to a shell."""
    from dspex.notebook import complete

    shell.register_magics(DspexMagics)
    display.register(shell)
    complete.load(shell)


def unload(shell: Any) -> None:
    """Take the magics away."""
    from dspex.notebook import complete

    complete.unload(shell)
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("dspex", None)


# ── the commands: (options, cell, names) → (value, the name it is bound to) ─────────────────────


def _lm(given: argparse.Namespace, cell: str | None, names: Names) -> tuple[Runtime, None]:
    _no_cell("lm", cell)
    if not given.models and given.objective is None and given.store is None:
        return session.current(), None
    options = {key: getattr(given, key) for key in ("objective", "store") if getattr(given, key) is not None}
    models = [
        names[name] if name in names and not isinstance(names[name], str) else name for name in given.models
    ]
    return session.configure(models or None, **options), None


def _signature(given: argparse.Namespace, cell: str | None, names: Names) -> tuple[Signature, str | None]:
    types = {
        name: value for name, value in names.items() if isinstance(value, type) and not name.startswith("_")
    }
    if cell is None:
        return signature(given.spec, given.instructions, name=given.name, types=types), None
    spec, instructions = _spec_and_docstring(cell)
    if not given.spec.isidentifier():
        raise DefinitionError(
            f"the cell's signature needs a name, got {given.spec!r}", hint="%%dspex signature Triage"
        )
    return signature(spec, instructions or given.instructions, name=given.spec, types=types), given.spec


def _space(given: argparse.Namespace, cell: str | None, names: Names) -> tuple[Space, str | None]:
    if cell is None:
        found = _named(given.name, names, "space")
        if not isinstance(found, Space):
            raise DefinitionError(f"{given.name} is no Space but a {type(found).__name__}")
        return found, None
    if not given.name.isidentifier():
        raise DefinitionError(f"the cell's space needs a name, got {given.name!r}", hint="%%dspex space S")
    return Space.parse(cell), given.name


def _optimize(given: argparse.Namespace, cell: str | None, names: Names) -> tuple[Study, None]:
    _no_cell("optimize", cell)
    metric = metrics.NAMED.get(given.metric)
    study = session.optimize(
        _named(given.task, names, "signature or program"),
        space=None if given.space is None else _named(given.space, names, "space"),
        trainset=_named(given.train, names, "data set"),
        valset=None if given.val is None else _named(given.val, names, "data set"),
        metric=metric if metric is not None else _named(given.metric, names, "metric", also=metrics.NAMED),
        **search_options(given),
    )
    return study, None


def _runs(_given: argparse.Namespace, cell: str | None, _names: Names) -> tuple[pd.DataFrame, None]:
    _no_cell("runs", cell)
    return session.runs(), None


def _route(given: argparse.Namespace, cell: str | None, names: Names) -> tuple[Route, None]:
    _no_cell("route", cell)
    return session.route(None if given.task is None else _named(given.task, names, "signature")), None


def _history(given: argparse.Namespace, cell: str | None, _names: Names) -> tuple[pd.DataFrame, None]:
    _no_cell("history", cell)
    return session.history(given.n), None


COMMANDS: dict[str, Callable[[argparse.Namespace, str | None, Names], tuple[Any, str | None]]] = {
    "history": _history,
    "lm": _lm,
    "optimize": _optimize,
    "route": _route,
    "runs": _runs,
    "signature": _signature,
    "space": _space,
}


def _parsers() -> dict[str, Parser]:
    parsers = {name: Parser(prog=f"%dspex {name}") for name in COMMANDS}
    lm = parsers["lm"]
    lm.add_argument("models", nargs="*", help="DSPy model strings, or names of dspy.LM variables")
    lm.add_argument("--objective", help="balanced, quality, latency or cost")
    lm.add_argument("--store", help="memory, a file path, or a database URL")
    define = parsers["signature"]
    define.add_argument("spec", help="the spec; above a cell, the signature's name")
    define.add_argument("--name", default="Signature", help="what tables call it")
    define.add_argument("--instructions", help="how the task should be done")
    parsers["space"].add_argument("name", help="the space's name")
    optimize = parsers["optimize"]
    optimize.add_argument("task", help="a signature's or a program's variable")
    optimize.add_argument("--space", help="a space's variable; DSPy's optimizers need none")
    optimize.add_argument("--train", required=True, help="the trainset's variable")
    optimize.add_argument("--val", help="the valset's variable")
    add_search_options(optimize)
    parsers["route"].add_argument(
        "task", nargs="?", help="a signature's variable; the last one executed if left out"
    )
    parsers["history"].add_argument("-n", type=int, default=20, help="at most so many (default 20)")
    return parsers


_PARSERS = _parsers()


def options_of(command: str) -> list[str]:
    """Return a command's options, as they are written."""
    return [name for name in _PARSERS[command].option_names if name != "-h"]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise DefinitionError(
            f"%dspex cannot read its line: {error}: {line}", hint="close the quotes"
        ) from error


def _named(name: str, names: Names, kind: str, also: Mapping[str, Any] | None = None) -> Any:
    """Find a notebook variable, also one reached through dots: ``task.train``."""
    first, *rest = name.split(".")
    if first not in names:
        mine = [each for each in names if not each.startswith("_")]
        raise UnknownNameError.among(kind, name, [*mine, *(also or {})])
    found = names[first]
    for attribute in rest:
        if not hasattr(found, attribute):
            raise UnknownNameError.among(
                f"attribute of {first}", attribute, [n for n in dir(found) if n[0] != "_"]
            )
        found = getattr(found, attribute)
    return found


def _spec_and_docstring(cell: str) -> tuple[str, str | None]:
    """Split a cell into the spec and the instructions, which stand in quotes behind it."""
    for quotes in ('"""', "'''"):
        before, found, _ = cell.partition(quotes)
        if found:
            try:
                instructions = ast.literal_eval(cell[len(before) :].strip())
            except (SyntaxError, ValueError) as error:
                raise SignatureError.at(
                    cell, len(before), "the instructions must end in the quotes they began with"
                ) from error
            return " ".join(before.split()), " ".join(instructions.split())
    return " ".join(cell.split()), None


def _no_cell(name: str, cell: str | None) -> None:
    if cell is not None:
        raise DefinitionError(f"%%dspex {name} takes no cell", hint=f"write %dspex {name} ... on one line")

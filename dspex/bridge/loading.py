"""Loading what was saved of a bound program: onto one of the same modules, or onto the one it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

from dspex.bridge import binding, bound, copying
from dspex.bridge.bound import REMEMBERED, Configuration, Way
from dspex.bridge.parts import Parts, holder_of
from dspex.errors import DataError, DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dspy


def load(program: dspy.Module, path: str | Path, **options: Any) -> dspy.Module:
    """Return a copy of a program that is, and runs, as the one that was saved to a file.

    Parameters
    ----------
    program
        The program before it was bound.
    path
        What ``program.save(path)`` wrote: JSON, or a pickle if ``allow_pickle=True`` is among the options.
    **options
        What DSPy's own `load` takes: `allow_pickle`, `allow_unsafe_lm_state`.
    """
    made = copying.copied(program)
    state = _saved(Path(path), **options).get(REMEMBERED)
    if state:
        values = {name: bound.read_value(value) for name, value in state.items()}
        made = binding.Binder(made, values, None, None).bound()
    made.load(path, **options)
    return made


def _saved(path: Path, *, allow_pickle: bool = False, **_options: Any) -> dict[str, Any]:
    """Read what DSPy wrote, as far as it may be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if path.suffix == ".json":
        found: dict[str, Any] = json.loads(content)
        return found
    return cloudpickle.loads(content) if allow_pickle else {}


def rebind(configuration: Configuration, state: Mapping[str, Any]) -> None:
    """Make the program of `configuration` run as the one did whose `state` was saved.

    DSPy has loaded instructions, demos and models by now; this does the rest.
    """
    ours = configuration.dump_state()
    differing = [
        name
        for name in {**state, **ours}
        if name.rpartition(".")[2] == "module" and ours.get(name) != state.get(name)
    ]
    if differing:
        raise DefinitionError(
            f"the saved program was made of other modules: {', '.join(sorted(differing))} differs",
            hint="dspex.Space.load(program, path) makes them anew",
        )
    program = configuration.program
    _unbind(program, configuration.former)
    values = {
        name: bound.read_value(value) for name, value in state.items() if name.rpartition(".")[2] != "module"
    }
    binding.Binder(program, values, None, None).bound()
    made: Configuration = vars(program)[REMEMBERED]
    swapped = {name: value for name, value in configuration.values.items() if name in state}
    kept = {name: value for name, value in configuration.values.items() if not bound.is_own(name)}
    made.values = {**kept, **swapped, **made.values}
    configuration.values, configuration.former = made.values, made.former
    setattr(program, REMEMBERED, configuration)


def _unbind(program: dspy.Module, former: Mapping[tuple[str, str], Any]) -> None:
    """Take back what is not DSPy's to load; the models it has just loaded stay."""
    for (where, what), value in former.items():
        setattr(holder_of(program, where), what, value)
    for part in Parts(program).values():
        if isinstance(part.module, bound.Bound):
            setattr(part.module, bound.WAY, Way(lm=getattr(part.module, "lm", None)))
    delattr(program, REMEMBERED)

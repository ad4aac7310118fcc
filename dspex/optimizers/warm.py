"""Beginning where an earlier study ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    import dspy

    from dspex.optimizers.study import Study
    from dspex.records import Configuration
    from dspex.store import Store
    from dspex.variables.space import Space


def started(
    program: dspy.Module, space: Space | None, earlier: Study | str, store: Store
) -> tuple[dspy.Module, Space | None]:
    """Return the program and the space of a study that begins where an earlier one ended.

    Its best configuration becomes the space's default, as far as both spaces have the same variables;
    without a space its best program takes the place of the one given.

    Raises
    ------
    DataError
        If there is nothing that could be taken over.
    """
    if space is not None:
        return program, space.starting_at(_shared(space, _best_of(earlier, store), earlier))
    if isinstance(earlier, str):
        raise DataError(
            "warm_start by name needs a space: a name has a configuration, no program",
            hint="give the study itself, or optimize(study.program, ...)",
        )
    return earlier.program, None


def _best_of(earlier: Study | str, store: Store) -> Configuration:
    if not isinstance(earlier, str):
        if earlier.definition.space is None:
            raise DataError(
                f"{earlier.name} searched no space, its best is a program",
                hint="optimize(study.program, space=...) begins with it",
            )
        return dict(earlier.best.configuration)
    row = store.study(earlier)
    if row is None:
        raise UnknownNameError.among("study", earlier, store.studies()["name"])
    found: dict[str, Any] | None = row["best_configuration"]
    if not found:
        raise DataError(f"{earlier} has no best configuration yet", hint="wait() for it, or resume it")
    return found


def _shared(space: Space, best: Configuration, earlier: Study | str) -> Configuration:
    """Keep the values of variables that the space has and that may have them."""
    name = earlier if isinstance(earlier, str) else earlier.name
    known = {key: value for key, value in best.items() if key in space}
    if not known:
        raise DataError(
            f"{name} searched {', '.join(best)}, this space has {', '.join(space)}: nothing is shared",
            hint="leave warm_start out, or give the space a variable of the earlier one",
        )
    return space.complete(known)

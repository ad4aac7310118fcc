"""Beginning where earlier studies ended: with their best as the default, and with what they have scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.bridge import examples as examples_bridge
from dspex.bridge import identity
from dspex.errors import DataError, DspexError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dspy

    from dspex.optimizers.definition import Definition
    from dspex.optimizers.study import Study
    from dspex.optimizers.trials import Workshop
    from dspex.records import Configuration, Score
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


def earlier_rows(what: Definition, shop: Workshop) -> Iterator[tuple[Configuration, Score]]:
    """Walk through the rows of other studies that would be this one's, had it paid for them."""
    assert what.space is not None  # a search without one is refused beforehand
    examples = [examples_bridge.key_of(each) for each in what.scored]
    for key, configuration in _earlier(what, what.space, shop).items():
        program = what.bind(configuration)
        text_key = identity.run_key(program, identity.said_by(program), what.default_lm)
        for row in shop.ledger.find_all(text_key, key, examples).values():
            yield configuration, row


def _earlier(what: Definition, space: Space, shop: Workshop) -> dict[str, Configuration]:
    """Return the configurations of this space that other studies have tried, by key."""
    found: dict[str, Configuration] = {}
    for name in sorted(shop.store.studies()["name"]):
        for trial in [] if name == what.name else shop.store.trials(name):
            if _fits(space, trial.configuration):
                found.setdefault(space.key_of(trial.configuration), trial.configuration)
    return found


def _fits(space: Space, configuration: Configuration) -> bool:
    try:
        space.check(configuration)
    except DspexError:
        return False
    return True

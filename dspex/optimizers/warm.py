"""Warm starts: what earlier studies have scored of the very programs that a study may try."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.bridge import examples as examples_bridge
from dspex.bridge import identity
from dspex.errors import DspexError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspex.optimizers.definition import Definition
    from dspex.optimizers.trials import Workshop
    from dspex.records import Configuration, Score
    from dspex.variables.space import Space


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

"""Diverting a share of a registry's uses to other values."""

from __future__ import annotations

import pytest

import dspex as dx
from dspex.errors import VariableError

SPACE = dx.Space(tone=dx.Choice(["brief", "kind"]), temperature=dx.Float(0.0, 1.5, default=0.7))


def tones(registry, n=400):
    return [registry.use()["tone"] for _ in range(n)]


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_of_the_uses_takes_the_other_values(share):
    """As many uses as were asked for are diverted, the same ones for the same seed; nothing is written."""
    registry, again = dx.Registry(SPACE), dx.Registry(SPACE)
    for each in (registry, again):
        each.divert({"tone": "kind"}, share, seed=3)
    drawn = tones(registry)
    assert abs(drawn.count("kind") / 400 - share) < 0.06
    assert drawn == tones(again)
    assert registry["tone"] == "brief"
    assert registry.version == 0


def test_the_other_values_are_complete():
    """What is left out is at its default."""
    registry = dx.Registry(SPACE, {"temperature": 1.0})
    registry.divert({"tone": "kind"}, 0.999)
    assert dict(registry.use()) == {"tone": "kind", "temperature": 0.7}


def test_it_ends():
    """After its end every use has the values in force; ending twice ends no later one."""
    registry = dx.Registry(SPACE)
    end = registry.divert({"tone": "kind"}, 0.5)
    end()
    assert set(tones(registry)) == {"brief"}
    registry.divert({"tone": "kind"}, 0.5)
    end()
    assert set(tones(registry)) == {"brief", "kind"}


def test_what_cannot_be_diverted_is_refused():
    """A second diversion, a share that is none, and values that do not fit."""
    registry = dx.Registry(SPACE)
    with pytest.raises(VariableError, match="between 0 and 1, got 1"):
        registry.divert({"tone": "kind"}, 1)
    with pytest.raises(VariableError, match="rude"):
        registry.divert({"tone": "rude"}, 0.1)
    registry.divert({"tone": "kind"}, 0.1)
    with pytest.raises(VariableError, match="one diversion at a time"):
        registry.divert({"tone": "kind"}, 0.1)

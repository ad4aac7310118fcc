"""Adapters by their short names."""

import dspy
import pytest

from dspex import adapters
from dspex.bridge import formats
from dspex.errors import DefinitionError


def test_names_are_the_fast_adapters():
    """The short names stand for adapters that write what DSPy's of that name do."""
    assert [type(formats.adapter(name)) for name in ("chat", "json", "xml")] == [
        adapters.ChatAdapter,
        adapters.JSONAdapter,
        adapters.XMLAdapter,
    ]


def test_adapters_and_their_classes_are_taken():
    """An object stays itself, a class makes one."""
    mine = dspy.ChatAdapter()
    assert formats.adapter(mine) is mine
    assert type(formats.adapter(dspy.XMLAdapter)) is dspy.XMLAdapter


@pytest.mark.parametrize("value", ["jsn", 3, dict])
def test_anything_else_is_refused(value):
    """What is no adapter says which names there are."""
    with pytest.raises(DefinitionError, match="chat, json, xml"):
        formats.adapter(value)

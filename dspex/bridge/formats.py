"""Adapters by their short names: the formats in which programs talk to models."""

from __future__ import annotations

from typing import Any

import dspy

from dspex.bridge.compiled.adapters import ChatAdapter, JSONAdapter, XMLAdapter
from dspex.errors import DefinitionError, UnknownNameError

NAMED: dict[str, type[dspy.Adapter]] = {"chat": ChatAdapter, "json": JSONAdapter, "xml": XMLAdapter}
"""Byte for byte what DSPy's adapters of these names write and read."""


def adapter(value: Any) -> dspy.Adapter:
    """Return an adapter, given as one, as a class of them, or by name.

    Raises
    ------
    DefinitionError
        If it is none of these.
    """
    if isinstance(value, str):
        if value not in NAMED:
            raise UnknownNameError.among("adapter", value, NAMED)
        return NAMED[value]()
    made = value() if isinstance(value, type) and issubclass(value, dspy.Adapter) else value
    if not isinstance(made, dspy.Adapter):
        raise DefinitionError(f"an adapter is a dspy.Adapter or one of {', '.join(NAMED)}, got {value!r}")
    return made

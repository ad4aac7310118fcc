"""Adapters that write and read exactly what DSPy's do, sooner: `ChatAdapter`, `JSONAdapter`, `XMLAdapter`."""

from dspex.bridge.compiled.adapters import ChatAdapter, JSONAdapter, XMLAdapter

__all__ = ["ChatAdapter", "JSONAdapter", "XMLAdapter"]

"""Adapters that write and read exactly what DSPy's do, sooner: `ChatAdapter`, `JSONAdapter`, `XMLAdapter`.

`fallbacks` says how often DSPy's own code had to take over, and why.
"""

from dspex.bridge.compiled.adapters import ChatAdapter, JSONAdapter, XMLAdapter, fallbacks

__all__ = ["ChatAdapter", "JSONAdapter", "XMLAdapter", "fallbacks"]

"""Adapters that write and read exactly what DSPy's do, sooner: `ChatAdapter`, `JSONAdapter`, `XMLAdapter`.

`fallbacks` says how often DSPy's own code had to take over, and why; `path` says whether the part that exists
in C too runs ``"compiled"`` or ``"pure"``.
"""

from dspex.bridge.compiled.adapters import ChatAdapter, JSONAdapter, XMLAdapter, fallbacks
from dspex.bridge.compiled.watching import path

__all__ = ["ChatAdapter", "JSONAdapter", "XMLAdapter", "fallbacks", "path"]

"""The writer: what it waits for."""

from __future__ import annotations

import threading

from dspex.store import writer


def test_flushing_while_closing_does_not_hang(store, monkeypatch):
    """A flush that has begun when another thread closes the store comes back."""

    class Met(writer._Flush):
        def __init__(self):
            super().__init__()
            closing = threading.Thread(target=store.close)
            closing.start()
            closing.join(0.5)  # a store may as well let the flush go first

    monkeypatch.setattr(writer, "_Flush", Met)
    flushing = threading.Thread(target=store.flush, daemon=True)
    flushing.start()
    flushing.join(5)
    assert not flushing.is_alive()

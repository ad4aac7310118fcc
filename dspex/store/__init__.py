"""What is kept: the append-only execution log, the labels, and the studies."""

from dspex.store.log import Store, default_url

__all__ = ["Store", "default_url"]

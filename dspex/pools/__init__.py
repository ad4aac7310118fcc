"""Where work runs."""

from dspex.pools.base import Pool, make_pool

__all__ = ["Pool", "make_pool"]

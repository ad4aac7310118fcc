"""The fast layer that needs no model: signatures and metrics."""

"""The fast layer that needs no model: signatures, templates and metrics."""

"""The only room that knows DSPy: models, signatures, programs, and what a run took."""

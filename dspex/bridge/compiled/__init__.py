"""DSPy's Chat, JSON and XML formats, specialised once per signature: the same bytes, sooner."""

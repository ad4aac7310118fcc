"""What a Jupyter user touches; nothing below knows that it exists."""

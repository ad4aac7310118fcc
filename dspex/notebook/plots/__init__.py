"""Plots: each a function that reads the data, and functions that draw it."""

"""Learns which way of running a task pays: analyze, select, distribute, monitor, adapt, fall back."""

"""Starts of coordinate networks: what a learnt one saves, and what it costs."""

"""Benchmarks: scripts that print the figures of README.md beside them."""

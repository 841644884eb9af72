"""Differentiation: analysis of traced functions, and our own rules."""

"""Differentiation: what a traced function holds, and rules of our own."""

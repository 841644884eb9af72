"""Tests that take long, by file or by function: `-m "not slow"` leaves them out."""

SLOW = frozenset(
    """
tests/benchmarks/test_gpu.py
tests/fuzz/test_edges.py
tests/test_hostile_losses.py
tests/test_notebooks.py
tests/training/test_processes.py
""".split()
)

"""Data sets and families of tasks, one file each."""

"""Data sets and families of tasks, one file each, and what prepares and draws them."""

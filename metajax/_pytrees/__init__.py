"""Nodes of pytrees that the core looks at."""

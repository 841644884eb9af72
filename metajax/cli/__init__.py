"""The `metajax` command."""

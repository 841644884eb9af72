"""The pictures to label: prepared, resized, known by content, as they arrive."""

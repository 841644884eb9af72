"""Outlines and boxes: taught, made for a folder, and written."""

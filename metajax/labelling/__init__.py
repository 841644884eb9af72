"""Labelling pictures of one's own by a few examples, with calibrated confidence."""

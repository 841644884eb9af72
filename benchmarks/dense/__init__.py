"""Baselines of segmentation and detection that learn nothing."""

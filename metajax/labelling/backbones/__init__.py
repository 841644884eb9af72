"""Labelling by a pre-trained network, and the heads on its features."""

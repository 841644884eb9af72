"""Samplers that wrap another one, and the transforms of episodes that they take."""

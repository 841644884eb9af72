"""Oracles and classical strategies for bandits and tabular MDPs."""

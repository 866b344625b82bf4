"""Mutual learning with reliable pseudo-labels."""

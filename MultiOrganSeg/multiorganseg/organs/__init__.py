"""Organs: the catalogue and label tables."""

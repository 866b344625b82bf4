"""Measurements and warnings for each segmented organ."""

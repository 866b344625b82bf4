"""Geometry: every step gives back a record with its exact inverse."""

"""Measure finished runs on their fold, and compare runs with each other."""

"""Mutated files, read in child processes; see `run.py`."""

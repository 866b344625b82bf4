"""Correction of a segmentation of the scene by prompts, answered by the engine's process."""

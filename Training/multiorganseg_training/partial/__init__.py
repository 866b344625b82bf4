"""Losses, probabilities and pseudo-labels for cases in which only some organs are annotated."""

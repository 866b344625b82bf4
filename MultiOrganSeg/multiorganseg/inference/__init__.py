"""Inference: from a volume and a bundle to a segmentation, streamed."""

"""Results: the segmentation and its file formats."""

"""Training for MultiOrganSeg: everything that learns. Needs torch, never 3D Slicer."""

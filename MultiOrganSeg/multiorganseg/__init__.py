"""MultiOrganSeg engine: volumes, geometry, organs, bundles and inference, without 3D Slicer or training."""

__version__ = "0.1.0"

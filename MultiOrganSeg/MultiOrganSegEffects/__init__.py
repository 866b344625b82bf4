"""Segment Editor effects of MultiOrganSeg, in a folder of their own.

Slicer registers a file's folder as a Python package of that name, which must not replace `MultiOrganSegLib`.
"""

from MultiOrganSegEffects.CorrectOrganEffect import CorrectOrganEffect

__all__ = ["CorrectOrganEffect"]

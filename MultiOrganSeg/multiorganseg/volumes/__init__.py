"""Volumes: reading, checking and writing."""

from multiorganseg.volumes.volume import Affine, Grid, Volume

__all__ = ["Affine", "Grid", "Volume"]

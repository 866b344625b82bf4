"""Volumes: reading, checking and writing."""

from multiorganseg.volumes.check import VolumeWarning
from multiorganseg.volumes.dicom_series import SeriesInfo, dicom_files, find_dicom_series
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Affine, Grid, Volume
from multiorganseg.volumes.write import write_volume

__all__ = [
    "Affine",
    "Grid",
    "SeriesInfo",
    "Volume",
    "VolumeWarning",
    "dicom_files",
    "find_dicom_series",
    "read_labels",
    "read_volume",
    "write_volume",
]

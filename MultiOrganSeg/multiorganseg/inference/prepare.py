"""What every image goes through before a network sees it, in training and in use alike."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from multiorganseg.bundles.metadata import Preprocessing
from multiorganseg.errors import VolumeError
from multiorganseg.geometry.body import air_threshold
from multiorganseg.geometry.canonical import Canonical, plan_canonical
from multiorganseg.inference.prepare_converted import TurnedCanonical, prepare_converted
from multiorganseg.intensity import map_window, zscore
from multiorganseg.volumes.check import VolumeWarning
from multiorganseg.volumes.hounsfield import to_hounsfield
from multiorganseg.volumes.volume import Volume


def prepare(
    volume: Volume, preprocessing: Preprocessing
) -> tuple[Canonical | TurnedCanonical, NDArray[np.float32]]:
    """Bring a volume onto the network's grid and into its intensities.

    For a network that sees a window of HU, a CT that is evidently not in HU is brought there first; what is
    done or wrong is reported with a `VolumeWarning`, unless it stands in the volume's `warnings` already.

    Returns:
        The geometric steps with their inverse, and the image (k, j, i).

    Raises:
        VolumeError: The network takes several images of a patient.
    """
    if preprocessing.original is not None:
        if len(preprocessing.original.channels) > 1:
            msg = f"{volume.source} alone is not what this model takes."
            names = ", ".join(preprocessing.original.channels)
            raise VolumeError(msg, cause=f"It takes {names}.", next_step="Take a model of one image.")
        turned, channels = prepare_converted([volume], preprocessing)
        return turned, channels[0]
    window = preprocessing.window
    if window:
        given, volume = volume.warnings, to_hounsfield(volume, window)
        for message in volume.warnings[: len(volume.warnings) - len(given)]:
            warnings.warn(f"{volume.source}: {message}", VolumeWarning, stacklevel=2)
    threshold = air_threshold(window) if window else None
    canonical = plan_canonical(volume.voxels, volume.grid, preprocessing.spacing_mm, threshold)
    image = canonical.apply(volume.voxels)
    return canonical, map_window(image, window) if window else zscore(image)

"""What every image goes through before a network sees it, in training and in use alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiorganseg.bundles.metadata import Preprocessing
from multiorganseg.geometry.body import air_threshold
from multiorganseg.geometry.canonical import Canonical, plan_canonical
from multiorganseg.intensity import map_window, zscore
from multiorganseg.volumes.volume import Volume


def prepare(volume: Volume, preprocessing: Preprocessing) -> tuple[Canonical, NDArray[np.float32]]:
    """Bring a volume onto the network's grid and into its intensities.

    Returns:
        The geometric steps with their inverse, and the image (k, j, i).
    """
    window = preprocessing.window
    threshold = air_threshold(window) if window else None
    canonical = plan_canonical(volume.voxels, volume.grid, preprocessing.spacing_mm, threshold)
    image = canonical.apply(volume.voxels)
    return canonical, map_window(image, window) if window else zscore(image)

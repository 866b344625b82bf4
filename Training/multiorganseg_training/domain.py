"""What the scans of a training are like, for the bundle that is made from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from multiorganseg.bundles.metadata import Domain
from multiorganseg.quality.domain import organ_intensities, scan_measures, tops_above_liver
from multiorganseg_training.cache import PreparedCase
from multiorganseg_training.recipe import Recipe

LEFT_OUT = 0.1
"""Share of the scans at each end that does not widen a range: one odd scan does not make its kind known."""

Measures = list[Mapping[str, float]]


def training_domain(cases: Iterable[PreparedCase], recipe: Recipe) -> Domain | None:
    """Measure the training cases in which an organ is annotated.

    Args:
        cases: Prepared as for the training; the validation fold is not among them.
        recipe: Of the training.

    Returns:
        The ranges in which eight of ten cases lie, and the greatest heights; None for networks that see no
        window of HU.
    """
    if recipe.preprocessing.intensity != "window" or recipe.data.modality != "CT":
        return None
    spacing, window, table = recipe.preprocessing.spacing_mm, recipe.preprocessing.window, recipe.data.table
    scans: Measures = []
    organs: Measures = []
    heights: Measures = []
    for case in cases:
        if not case.labels.any():
            continue
        image = case.image.astype(np.float32)
        scans.append(scan_measures(image, spacing, window))
        organs.append(organ_intensities(image, case.labels, table, window))
        heights.append(tops_above_liver(case.labels, table, spacing))
    highest = {key: high for key, (_, high) in _ranges(heights, 0.0).items()}
    return Domain(_ranges(scans, LEFT_OUT), _ranges(organs, LEFT_OUT), highest)


def _ranges(measured: Measures, left_out: float) -> dict[str, tuple[float, float]]:
    keys = dict.fromkeys(key for one in measured for key in one)
    values = {key: [one[key] for one in measured if key in one] for key in keys}
    return {
        key: (
            round(float(np.quantile(found, left_out)), 3),
            round(float(np.quantile(found, 1 - left_out)), 3),
        )
        for key, found in values.items()
    }

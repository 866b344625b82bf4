"""Whether labels lie on the grid of their image."""

from __future__ import annotations

from multiorganseg.errors import TrainingError
from multiorganseg.metrics.compare import SAME_GRID_MM
from multiorganseg.volumes.volume import Grid


def require_same_grid(case: str, image: Grid, labels: Grid) -> None:
    """Refuse labels on another grid than their image.

    Raises:
        TrainingError: The shapes differ, or voxel centres lie more than 0.01 mm apart.
    """
    if image.same_as(labels, SAME_GRID_MM):
        return
    msg = f"The labels of the case '{case}' do not lie on its image's grid."
    shapes = [" × ".join(map(str, grid.shape)) for grid in (image, labels)]
    raise TrainingError(
        msg,
        cause=f"The image has {shapes[0]} voxels, the labels have {shapes[1]}."
        if image.shape != labels.shape
        else "They have another place, spacing or direction.",
        next_step="Draw the labels on this image, or resample them onto its grid.",
    )

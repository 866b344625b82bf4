"""Labels on the grid of their image."""

from __future__ import annotations

import warnings
from dataclasses import replace

from multiorganseg.errors import TrainingError
from multiorganseg.geometry.lattice import shared_lattice
from multiorganseg.metrics.compare import SAME_GRID_MM
from multiorganseg.volumes.check import VolumeWarning
from multiorganseg.volumes.volume import Grid, Volume


def shares_lattice(image: Grid, labels: Grid) -> bool:
    """Whether `on_image_grid` would take labels of this grid, if none of them lies outside the image."""
    return image.same_as(labels, SAME_GRID_MM) or shared_lattice(labels, image) is not None


def other_grid(case: str, image: tuple[int, ...], labels: tuple[int, ...]) -> TrainingError:
    """Make the error for labels that do not lie on the grid of their image; both are told by their shapes."""
    shapes = [" × ".join(map(str, shape)) for shape in (image, labels)]
    return TrainingError(
        f"The labels of the case '{case}' do not lie on its image's grid.",
        cause=f"The image has {shapes[0]} voxels, the labels have {shapes[1]}."
        if image != labels
        else "They have another place, spacing or direction.",
        next_step="Draw the labels on this image, or resample them onto its grid.",
    )


def on_image_grid(case: str, image: Grid, labels: Volume) -> Volume:
    """Give labels on the grid of their image, where no voxel has to be interpolated for it.

    Axes may be in another order or run the other way, numbers in the header may be rounded, and the labels
    may cover a part of the image; where they do not reach there is no organ, which a `VolumeWarning` says.

    Args:
        case: Named in the error.
        image: Grid of the image.
        labels: The label map.

    Raises:
        TrainingError: Voxel centres differ by more than a tenth of a voxel, or labels lie outside the image.
    """
    if image.same_as(labels.grid, SAME_GRID_MM):
        return replace(labels, affine=image.affine)
    shapes = [" × ".join(map(str, grid.shape)) for grid in (image, labels.grid)]
    lattice = shared_lattice(labels.grid, image)
    if lattice is None:
        raise other_grid(case, image.shape, labels.grid.shape)
    voxels, lost = lattice.place(labels.voxels)
    if lost:
        msg = f"Labels of the case '{case}' lie outside its image."
        raise TrainingError(
            msg,
            cause=f"{lost:,} labelled voxels are not in the image.",
            next_step="Check that image and labels belong together.",
        )
    if not lattice.covers_target:
        warnings.warn(
            f"The labels of the case '{case}' cover {shapes[1]} of the image's {shapes[0]} voxels; the rest "
            "counts as background.",
            VolumeWarning,
            stacklevel=2,
        )
    return replace(labels, voxels=voxels, affine=image.affine)

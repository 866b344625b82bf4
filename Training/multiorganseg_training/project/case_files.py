"""Files of cases: which formats, where they lie, and whether image and labels share a grid."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from multiorganseg.atomic import atomic_path
from multiorganseg.bundles.safe_names import name_problem
from multiorganseg.errors import ResourceError, TrainingError, VolumeError
from multiorganseg.geometry.lattice import shared_lattice
from multiorganseg.guarded import make_folders
from multiorganseg.metrics.compare import SAME_GRID_MM
from multiorganseg.privacy import no_more_readable_than
from multiorganseg.projects.project import ProjectCase
from multiorganseg.volumes.check import Header, VolumeWarning
from multiorganseg.volumes.headers import read_image_header
from multiorganseg.volumes.names import case_name, volume_suffix
from multiorganseg.volumes.nifti import read_nifti_header
from multiorganseg.volumes.read import read_labels
from multiorganseg.volumes.volume import Grid, Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.project.labels import LabelArray, relabel


def shares_lattice(image: Grid, labels: Grid) -> bool:
    """Whether `on_image_grid` would take labels of this grid, if none of them lies outside the image."""
    return image.same_as(labels, SAME_GRID_MM) or shared_lattice(labels, image) is not None


def other_grid(case: str, image: tuple[int, ...], labels: tuple[int, ...]) -> TrainingError:
    """Make the error for labels that do not lie on the grid of their image; it says both shapes."""
    shapes = [" × ".join(map(str, shape)) for shape in (image, labels)]
    return TrainingError(
        f"The labels of the case '{case}' do not lie on its image's grid.",
        cause=f"The image has {shapes[0]} voxels, the labels have {shapes[1]}."
        if image != labels
        else "They have another place, spacing or direction.",
        next_step="Draw the labels on this image, or resample them onto its grid.",
    )


def on_image_grid(case: str, image: Grid, labels: Volume) -> Volume:
    """Return labels on the grid of their image, where no voxel has to be interpolated for it.

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


SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Formats of a project's images and labels: one file a volume."""


def project_case(name: str, image: Path, *, labelled: bool, source: str = "") -> ProjectCase:
    """Return where the files of a case will lie in a project.

    Args:
        name: Of the case.
        image: File that its image comes from; its format is kept.
        labelled: Whether there is a label file.
        source: See `ProjectCase.source`.

    Raises:
        TrainingError: The name is not safe as that of a file, or the format is not supported.
    """
    suffix = volume_suffix(image.name)
    problem = "holds a '/'" if "/" in name else name_problem(name)
    if problem:
        msg = f"'{name}' cannot be the name of a case."
        raise TrainingError(msg, cause=f"It {problem}.", next_step="Rename the file.")
    if suffix.lower() not in SUFFIXES:
        msg = f"{image.name} is of a kind that projects do not hold."
        raise TrainingError(msg, next_step=f"Convert it to one of {', '.join(SUFFIXES)}.")
    file = f"{name}{suffix.lower()}"
    return ProjectCase(name, f"images/{file}", f"labels/{file}" if labelled else None, source)


def file_grid(path: Path) -> Grid:
    """Read the grid of an image or label file from its header.

    Raises:
        VolumeError: The file is missing, damaged or not three-dimensional.
    """
    if not path.is_file():
        msg = f"{path} does not exist."
        raise VolumeError(msg, next_step="Check that the dataset is complete.")
    header: Header = (
        read_nifti_header(path)
        if path.name.lower().endswith((".nii", ".nii.gz"))
        else read_image_header(path)[0]
    )
    if len(header.shape) != 3 or header.components != 1:
        msg = f"{path} is not one volume."
        raise VolumeError(
            msg,
            cause=f"It has {len(header.shape)} axes and {header.components} values a voxel.",
            next_step="Split it, and keep one channel or one point in time.",
        )
    k, j, i = header.shape
    return Grid((k, j, i), header.affine)


def check_grids(pairs: Mapping[str, tuple[Path, Path | None]]) -> None:
    """Check by their headers that the image and labels of each case share their voxel centres.

    Args:
        pairs: Image and label file by case name; an image alone is only checked for itself.

    Raises:
        TrainingError: They do not; the error names all such cases.
        VolumeError: A file is missing, damaged or not three-dimensional.
    """
    differing = []
    for name, (image, labels) in pairs.items():
        grid = file_grid(image)
        if labels is not None and not shares_lattice(grid, file_grid(labels)):
            differing.append(name)
    if differing:
        msg = "Images and labels lie on different grids."
        raise TrainingError(
            msg,
            cause=f"Cases: {', '.join(differing)}.",
            next_step="Draw the labels on these images, or resample them onto their grids.",
        )


@contextmanager
def kept_private(target: Path, *sources: Path) -> Iterator[None]:
    """Let a file of a project be no more readable than its sources, in a folder for its owner alone.

    A folder that is there already stays as it is, so that a project may be opened to others on purpose.

    Raises:
        ResourceError: The folder cannot be made.
    """
    try:
        make_folders(target.parent.parent)
        target.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        msg = f"Cannot write {target}."
        raise ResourceError(
            msg, cause=str(error), next_step="Choose a folder with write permission and enough free space."
        ) from error
    with no_more_readable_than(*sources):
        yield


def place_image(source: Path, target: Path, *, hardlink: bool = False) -> None:
    """Copy an image, or link it where asked and possible; its bytes stay the same, and who may read it.

    Raises:
        ResourceError: It cannot be written or the disk is full.
    """
    with kept_private(target, source), atomic_path(target) as partial:
        if hardlink:
            try:
                partial.hardlink_to(source.resolve())
            except OSError:
                shutil.copyfile(source, partial)
        else:
            shutil.copyfile(source, partial)


def place_labels(source: Path, target: Path, values: Mapping[int, int], image: Path) -> LabelArray:
    """Rewrite a label file with other values and on its image's grid, at once or not at all.

    Args:
        source: The file.
        target: Where to write, in the format that its suffix says.
        values: See `relabel`.
        image: The image that they belong to; see `on_image_grid`.

    Returns:
        The voxels written, (k, j, i).

    Raises:
        TrainingError: A value occurs that `values` does not name, or the grids differ.
        VolumeError: A file cannot be read.
        ResourceError: The target cannot be written.
    """
    volume = on_image_grid(case_name(source.name), file_grid(image), read_labels(source))
    voxels = relabel(volume.voxels, values, source)
    with kept_private(target, source):
        write_volume(Volume(voxels, volume.affine), target)
    return voxels

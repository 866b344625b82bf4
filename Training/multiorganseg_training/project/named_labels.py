"""Labels of chosen organs from files whose segments have names and may overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.project import Project
from multiorganseg.results.seg_nrrd import read_seg_nrrd_masks
from multiorganseg.volumes.dicom_header import is_dicom
from multiorganseg.volumes.headers import read_image_header
from multiorganseg.volumes.names import IMAGE_SUFFIXES, volume_suffix
from multiorganseg.volumes.volume import Grid, Volume
from multiorganseg_training.project.case_files import file_grid
from multiorganseg_training.project.organs import project_catalogue, suggested_organ
from multiorganseg_training.project.read_dicom_seg import compose, read_drawing

SEGMENTS = ".seg.nrrd"


@dataclass(frozen=True, eq=False)
class NamedMasks:
    """Segments by name.

    Attributes:
        masks: Mask (k, j, i) by the name of a segment.
        grid: That they lie on.
    """

    masks: Mapping[str, NDArray[np.bool_]]
    grid: Grid


def has_named_layers(path: Path) -> bool:
    """Whether a file is a DICOM SEG or RTSTRUCT, or a `.seg.nrrd` of several layers."""
    if path.name.lower().endswith(SEGMENTS):
        return read_image_header(path)[0].components > 1
    is_image = volume_suffix(path.name).lower() in IMAGE_SUFFIXES
    return path.is_file() and not is_image and is_dicom(path)


def read_named_labels(
    path: Path, project: Project, case: str, wanted: Mapping[str, str | None]
) -> tuple[Volume, LabelTable]:
    """Read chosen organs from a file with named segments; the others may overlap them as they like.

    Args:
        path: See `has_named_layers`.
        project: That the case belongs to.
        case: Its name; DICOM is laid onto the grid of its image.
        wanted: By organ key, the name of its segment; None for the one that is evidently that organ.

    Returns:
        Labels, numbered in the order of `wanted`, and what they mean.

    Raises:
        TrainingError: The file has no such segment.
        VolumeError: It is damaged, does not lie on the image, or chosen organs overlap of which neither lies
            within the other.
        DependencyError: pydicom is not installed.
    """
    found = _named_masks(path, project, case)
    names = {key: _name_of(key, name, found.masks, project, path) for key, name in wanted.items()}
    table = LabelTable.numbered(names)
    values = {key: table.value(key) for key in names}
    masks = {key: found.masks[name] for key, name in names.items()}
    labels = compose(masks, values, project_catalogue(project), {}, found.grid)
    return Volume(labels, found.grid.affine, str(path)), table


def _named_masks(path: Path, project: Project, case: str) -> NamedMasks:
    if path.name.lower().endswith(SEGMENTS):
        masks, affine = read_seg_nrrd_masks(path)
        k, j, i = next(iter(masks.values())).shape
        return NamedMasks(masks, Grid((k, j, i), affine))
    drawing, grid = read_drawing(path), file_grid(project.image_path(case))
    filled, named = drawing.masks(grid), dict[str, NDArray[np.bool_]]()
    for each in drawing.segments(project_catalogue(project)):
        mask = filled.get(each.number, np.zeros(grid.shape, np.bool_))
        named[each.name] = named[each.name] | mask if each.name in named else mask
    return NamedMasks(named, grid)


def _name_of(key: str, name: str | None, masks: Mapping[str, object], project: Project, path: Path) -> str:
    fitting = [
        each for each in masks if (each == name if name else key in (each, suggested_organ(each, project)))
    ]
    if len(fitting) == 1:
        return fitting[0]
    msg = f"{path.name} has no segment {name or key}." if not fitting else f"{key} may be several segments."
    raise TrainingError(
        msg,
        cause=f"Its segments: {', '.join(masks)}.",
        next_step=f"Name it: --organ '{key}=NAME OF THE SEGMENT'",
    )

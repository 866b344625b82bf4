"""Labels as `.nii.gz`, with the label table as JSON beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from multiorganseg.atomic import write_text_atomically
from multiorganseg.errors import OrganError
from multiorganseg.organs.catalogue import Catalogue, Code
from multiorganseg.organs.labels import LabelTable
from multiorganseg.organs.table_file import read_table_file
from multiorganseg.results.seg_nrrd import read_seg_nrrd_table
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.segments import Segment, segments_of
from multiorganseg.volumes.volume import Affine, Volume
from multiorganseg.volumes.write import write_volume

TABLE_SUFFIX = ".labels.json"


def write_nifti(
    segmentation: Segmentation, path: Path, catalogue: Catalogue, *, qform: Affine | None = None
) -> tuple[Path, Path]:
    """Write the labels and, beside them, what the label values mean.

    Args:
        segmentation: Labels to write.
        path: File that ends in `.nii.gz` or `.nii`.
        catalogue: Gives names, codes and colours.
        qform: See `multiorganseg.volumes.nifti.write_nifti`.

    Returns:
        The label file and its table (`X.nii.gz` and `X.labels.json`).

    Raises:
        OrganError: The table names an organ that the catalogue lacks.
        ResourceError: A file cannot be written.
        VolumeError: NIfTI cannot hold this geometry.
    """
    table = {
        "labels": segmentation.table.to_json(),
        "organs": {segment.organ.key: _organ(segment) for segment in segments_of(segmentation, catalogue)},
        "provenance": dict(segmentation.provenance),
    }
    write_volume(Volume(segmentation.labels, segmentation.affine), path, qform=qform)
    table_path = label_table_path(path)
    write_text_atomically(table_path, json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    return path, table_path


def label_table_path(path: Path) -> Path:
    """Where the label table of a label file lies: `X.nii.gz` → `X.labels.json`."""
    name = path.name.removesuffix(".gz")
    return path.with_name(name[: len(name) - len(Path(name).suffix)] + TABLE_SUFFIX)


def read_label_table(path: Path) -> LabelTable:
    """Find the label table of a label file.

    A table `X.labels.json` beside the file wins; without it, a `.nrrd` file is asked for its segments.

    Args:
        path: Label file, such as `X.nii.gz` or `X.seg.nrrd`.

    Raises:
        OrganError: There is no table, or it is not valid.
        VolumeError: A NRRD header cannot be read.
    """
    path = Path(path)
    table_path = label_table_path(path)
    if not table_path.is_file():
        if path.name.lower().endswith(".nrrd"):
            return read_seg_nrrd_table(path)
        msg = f"{path} has no label table."
        raise OrganError(
            msg,
            cause=f"{table_path.name} is not beside it.",
            next_step='Write one: {"labels": {"1": "spleen", "2": "liver"}}.',
        )
    return read_table_file(table_path)


def _organ(segment: Segment) -> dict[str, Any]:
    organ = segment.organ
    codes = {"category": organ.category, "type": organ.type, "modifier": organ.modifier}
    return {
        "name": organ.name,
        "color": list(organ.color),
        **{part: _code(code) for part, code in codes.items()},
    }


def _code(code: Code | None) -> dict[str, str] | None:
    return {"scheme": code.scheme, "value": code.value, "meaning": code.meaning} if code else None

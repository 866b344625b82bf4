"""Segmentations as `.seg.nrrd`, the native format of 3D Slicer 5's Segmentations module."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multiorganseg.atomic import atomic_path
from multiorganseg.errors import OrganError, VolumeError
from multiorganseg.organs.catalogue import Catalogue, Code, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.organs.table_file import known_key
from multiorganseg.privacy import without_input
from multiorganseg.quality.statistics import OrganStatistics
from multiorganseg.results.segmentation import TYPE_TAG, Author, Segmentation, author_from_tag
from multiorganseg.results.segments import Segment, model_title, segments_of
from multiorganseg.volumes.check import check_header
from multiorganseg.volumes.headers import read_image_header, read_image_voxels
from multiorganseg.volumes.label_values import segment_value
from multiorganseg.volumes.volume import Affine
from multiorganseg.volumes.write import write_nrrd

PROVENANCE_KEY = "MultiOrganSeg_Provenance"
TAG_PREFIX = "MultiOrganSeg."
TERMINOLOGY_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
ANATOMIC_CONTEXT = "Anatomic codes - DICOM master list"
_TERMINOLOGY = re.compile(r"TerminologyEntry:([^|]*)")
_SEGMENT = re.compile(r"Segment(\d{1,9})_")
_KEY = re.compile(r"[a-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")


def write_seg_nrrd(segmentation: Segmentation, path: Path, catalogue: Catalogue) -> None:
    """Write one segment for each organ of the table, empty ones too, on one shared layer.

    The segment's ID is the organ key. Its tags carry the terminology, who drew it, the measurements
    (`MultiOrganSeg.Voxels`, `.VolumeMl`, `.MeanIntensity`, `.Confidence`, `.Uncertainty`, `.Flags`) and
    where they came from (`.Model`, `.ModelSha256`, `.Modality`, `.Software`, `.Quality`); a tag without a
    value is left out. The provenance without the input's name lies in the header as JSON under
    `MultiOrganSeg_Provenance`.
    Keys and tags: 3D Slicer, Libs/MRML/Core/vtkMRMLSegmentationStorageNode.cxx, and the page
    "Segmentations" of its developer guide.

    Raises:
        OrganError: The table names an organ that the catalogue lacks.
        ResourceError: The file cannot be written.
    """
    extent = " ".join(map(str, filled_extent(segmentation.labels)))
    origin = _origin_tags(segmentation.provenance)
    pairs: dict[str, str] = {}
    for index, segment in enumerate(segments_of(segmentation, catalogue)):
        pairs |= _segment_pairs(index, segment, extent, origin)
    pairs |= {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": _conversion_parameters(
            segmentation.affine, segmentation.grid.shape
        ),
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        PROVENANCE_KEY: json.dumps(without_input(segmentation.provenance), ensure_ascii=False),
    }
    with atomic_path(path) as partial:
        write_nrrd(partial, segmentation.labels, segmentation.affine, pairs)


def read_seg_nrrd_table(path: Path) -> LabelTable:
    """Read which label value stands for which organ.

    A segment is the organ of the catalogue that its ID (the organ key in files of this package), its name or
    its code in the terminology tells; another one keeps its ID, or its name where 3D Slicer made up the ID.

    Raises:
        OrganError: The header names no segments, one has neither ID nor name, segments share a label value on
            several layers or are one organ, or the ID, name and code of a segment tell different organs.
        VolumeError: The file cannot be read or is no NRRD file.
    """
    _, pairs = read_image_header(path)
    organs: dict[int, str] = {}
    numbers = {int(found[1]) for key in pairs if (found := _SEGMENT.match(key))}
    for prefix in (f"Segment{number}_" for number in sorted(numbers)):
        value = segment_value(pairs.get(f"{prefix}LabelValue", "1"), path)
        key = _segment_key(prefix, pairs, path)
        if value in organs:
            msg = f"{path} has overlapping segments on several layers."
            raise OrganError(
                msg,
                cause=f"'{organs[value]}' and '{key}' share label value {value}.",
                next_step="In 3D Slicer, export the segments to a labelmap and use that file.",
            )
        organs[value] = key
    if not organs:
        msg = f"{path} names no segments."
        raise OrganError(
            msg,
            next_step="Save it from 3D Slicer as a segmentation, or put a label table beside it.",
        )
    return LabelTable(organs)


def read_seg_nrrd_masks(path: Path) -> tuple[dict[str, NDArray[np.bool_]], Affine]:
    """Read the segments of a file one by one, layer by layer, so that they may overlap.

    Returns:
        Mask (k, j, i) by organ key, or of what is no organ of the catalogue by name, and their affine.

    Raises:
        OrganError: As `read_seg_nrrd_table`, but for overlaps.
        VolumeError: As `read_seg_nrrd_table`, or a segment names a layer that is not there.
        ResourceError: The voxels do not fit into memory.
    """
    header, pairs = read_image_header(path)
    check_header(header, layered=True)
    voxels = read_image_voxels(header)
    layers = voxels if voxels.ndim == 4 else voxels[..., None]
    masks: dict[str, NDArray[np.bool_]] = {}
    organs = load_catalogue().organs
    numbers = {int(found[1]) for key in pairs if (found := _SEGMENT.match(key))}
    for prefix in (f"Segment{number}_" for number in sorted(numbers)):
        layer = pairs.get(f"{prefix}Layer", "0").strip()
        if not (layer.isascii() and layer.isdigit() and int(layer) < layers.shape[-1]):
            msg = f"{path.name} puts a segment on a layer that it does not have."
            raise VolumeError(msg, cause=f"Layer: {layer[:20]}.", next_step="Save it again in 3D Slicer.")
        value = segment_value(pairs.get(f"{prefix}LabelValue", "1"), path)
        key, mask = _segment_key(prefix, pairs, path), layers[..., int(layer)] == value
        name = key if key in organs else pairs.get(f"{prefix}Name", "").strip() or key
        masks[name] = masks[name] | mask if name in masks else mask
    if not masks:
        msg = f"{path} names no segments."
        raise OrganError(msg, next_step="Save it from 3D Slicer as a segmentation.")
    return masks, header.affine


def read_seg_nrrd_authors(path: Path) -> dict[str, Author]:
    """Read who drew each organ of a segmentation file; people where it does not say so.

    Raises:
        OrganError: As `read_seg_nrrd_table`.
        VolumeError: As `read_seg_nrrd_table`.
    """
    _, pairs = read_image_header(path)
    authors, index = {}, 0
    while f"Segment{index}_ID" in pairs:
        prefix = f"Segment{index}_"
        tag = re.search(rf"{re.escape(TYPE_TAG)}:([^|]*)", pairs.get(f"{prefix}Tags", ""))
        authors[_segment_key(prefix, pairs, path)] = author_from_tag(tag[1] if tag else "")
        index += 1
    return authors


def _segment_key(prefix: str, pairs: Mapping[str, str], path: Path) -> str:
    identity, name = (pairs.get(f"{prefix}{part}", "").strip() for part in ("ID", "Name"))
    entry = _TERMINOLOGY.search(pairs.get(f"{prefix}Tags", ""))
    catalogue = load_catalogue()
    found = {
        f"ID '{identity}'": known_key(identity, catalogue),
        f"name '{name}'": known_key(name, catalogue),
        "code": _coded_key(entry[1], catalogue) if entry else None,
    }
    keys = {what: key for what, key in found.items() if key is not None}
    if len(set(keys.values())) > 1:
        msg = f"{path.name} calls one segment by several organs."
        raise OrganError(
            msg,
            cause="; ".join(f"its {what} means {key}" for what, key in keys.items()) + ".",
            next_step="In 3D Slicer, give the segment the name and the terminology of its organ, or put a "
            "label table beside the file.",
        )
    if keys:
        return next(iter(keys.values()))
    spelt = "_".join(re.findall(r"[a-z0-9]+", name.lower()))
    if not identity and not spelt:
        msg = f"{path.name} has a segment without ID and name."
        raise OrganError(
            msg, cause=f"Only other fields begin with '{prefix}'.", next_step="Save it again from 3D Slicer."
        )
    return identity if _KEY.fullmatch(identity) or not spelt else spelt


def _coded_key(entry: str, catalogue: Catalogue) -> str | None:
    """Return the only organ of the catalogue that has the type and modifier of a terminology entry."""
    parts = [tuple(part.split("^")[:2]) for part in entry.split("~")]
    if len(parts) < 4:
        return None
    wanted = parts[2:4]
    keys = [
        organ.key
        for organ in catalogue.organs.values()
        if organ.type and [_plain(organ.type), _plain(organ.modifier)] == wanted
    ]
    return keys[0] if len(keys) == 1 else None


def _plain(code: Code | None) -> tuple[str, str]:
    return (code.scheme, code.value) if code else ("", "")


def terminology_entry(segment: Segment) -> str:
    """3D Slicer's `TerminologyEntry`: context, category, type, modifier and an empty anatomic region."""
    parts = (
        TERMINOLOGY_CONTEXT,
        _code(segment.category),
        _code(segment.type),
        _code(segment.modifier),
        ANATOMIC_CONTEXT,
        _code(None),
        _code(None),
    )
    return "~".join(parts)


def _code(code: Code | None) -> str:
    return f"{code.scheme}^{code.value}^{code.meaning}" if code else "^^"


def _segment_pairs(index: int, segment: Segment, extent: str, origin: Mapping[str, str]) -> dict[str, str]:
    tags = {**segment_tags(segment), **({} if segment.author is Author.PEOPLE else origin)}
    prefix = f"Segment{index}_"
    return {
        f"{prefix}ID": segment.organ.key,
        f"{prefix}Name": segment.organ.name,
        f"{prefix}NameAutoGenerated": "0",
        f"{prefix}Color": " ".join(f"{channel:.6g}" for channel in segment.unit_color),
        f"{prefix}ColorAutoGenerated": "0",
        f"{prefix}LabelValue": str(segment.value),
        f"{prefix}Layer": "0",
        f"{prefix}Extent": extent,
        f"{prefix}Tags": "".join(f"{key}:{value.replace('|', '/')}|" for key, value in tags.items()),
    }


def segment_tags(segment: Segment) -> dict[str, str]:
    """Codes, status, author and measurements of an organ as segment tags of 3D Slicer."""
    return {
        "TerminologyEntry": terminology_entry(segment),
        "Segmentation.Status": "completed" if _found(segment) else "notstarted",
        **{name: text for name, text in segment.author.tags.items() if text},
        **(measured_tags(segment.statistics) if segment.statistics else {}),
    }


def measured_tags(statistics: OrganStatistics) -> dict[str, str]:
    """Measurements of an organ as segment tags; one without a value is left out."""
    numbers = {
        "VolumeMl": (statistics.volume_ml, 3),
        "MeanIntensity": (statistics.mean_intensity, 1),
        "Confidence": (statistics.confidence, 4),
        "Uncertainty": (statistics.uncertainty, 4),
    }
    texts = {
        "Voxels": str(statistics.voxels),
        **{
            name: f"{number:.{digits}f}"
            for name, (number, digits) in numbers.items()
            if number is not None and math.isfinite(number)
        },
        "Flags": ", ".join(statistics.flags),
    }
    return {f"{TAG_PREFIX}{name}": text for name, text in texts.items() if text}


def _origin_tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    bundle = provenance.get("bundle", {})
    texts = {
        "Model": model_title(provenance),
        "ModelSha256": bundle.get("sha256", "") if isinstance(bundle, Mapping) else "",
        "Modality": provenance.get("modality", ""),
        "Software": provenance.get("software", ""),
        "Quality": provenance.get("quality", ""),
    }
    return {f"{TAG_PREFIX}{name}": str(text) for name, text in texts.items() if text}


def _found(segment: Segment) -> bool:
    return segment.statistics is None or segment.statistics.voxels > 0


def filled_extent(labels: NDArray[np.unsignedinteger]) -> list[int]:
    """First and last index of all labels along i, j and k; 0 and −1 where there is none.

    Slicer cuts a shared layer to the extent of its first segment, so that all segments must say the same.
    """
    filled = labels.any(axis=0)
    bounds = []
    for line in (np.any(filled, axis=0), np.any(filled, axis=1), labels.any(axis=(1, 2))):
        indices = np.flatnonzero(line)
        bounds += [int(indices[0]), int(indices[-1])] if indices.size else [0, -1]
    return bounds


def _conversion_parameters(affine: Affine, shape: tuple[int, int, int]) -> str:
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    numbers = [repr(float(number)) for number in ras.ravel()]
    extent = [str(bound) for size in shape[::-1] for bound in (0, size - 1)]
    geometry = ";".join([*numbers, *extent, ""])
    return f"Reference image geometry|{geometry}|Geometry of the segmented volume.&"

"""What segments say about themselves: measurements, provenance and codes, kept as segment tags."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import slicer
import vtk
from slicer.i18n import tr as _

from multiorganseg.errors import OrganError

if TYPE_CHECKING:
    from multiorganseg.organs.catalogue import Catalogue, Code, Organ
    from multiorganseg.quality.statistics import OrganStatistics
    from multiorganseg.results.segmentation import Author

PREFIX = "MultiOrganSeg."

_SIDES = {"7771000": "left", "24028007": "right"}
_TISSUE = "85756007"


def tag(segment: slicer.vtkSegment, name: str) -> str:
    """A tag's value; empty when the segment has no such tag."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def number_tag(segment: slicer.vtkSegment, name: str) -> float:
    """A tag's value as a number; NaN when there is none."""
    try:
        return float(tag(segment, name))
    except ValueError:
        return math.nan


def flags_tag(segment: slicer.vtkSegment) -> tuple[str, ...]:
    """Quality flags, worst first, as in `multiorganseg.quality.flags`."""
    return tuple(flag for flag in tag(segment, f"{PREFIX}Flags").split(", ") if flag)


def statistics_from_tags(segment: slicer.vtkSegment, key: str) -> OrganStatistics | None:
    """Measurements that a segmentation left in the tags; None for a segment that was not measured."""
    from multiorganseg.quality.statistics import OrganStatistics

    voxels = tag(segment, f"{PREFIX}Voxels")
    if not voxels.isdecimal():
        return None
    return OrganStatistics(
        key,
        int(voxels),
        number_tag(segment, f"{PREFIX}VolumeMl"),
        number_tag(segment, f"{PREFIX}MeanIntensity"),
        number_tag(segment, f"{PREFIX}Confidence"),
        flags_tag(segment),
    )


def provenance_from_tags(segment: slicer.vtkSegment) -> dict[str, Any]:
    """Where a segment came from, in the form of `Segmentation.provenance`; empty for others' segments."""
    name, _space, version = tag(segment, f"{PREFIX}Model").rpartition(" ")
    bundle = {"name": name, "version": version, "sha256": tag(segment, f"{PREFIX}ModelSha256")}
    facts = {key.lower(): tag(segment, f"{PREFIX}{key}") for key in ("Modality", "Software", "Quality")}
    return ({"bundle": bundle} if name else {}) | {key: text for key, text in facts.items() if text}


def author(segment: slicer.vtkSegment) -> Author:
    """Who drew a segment, as it says itself; people where it says nothing."""
    from multiorganseg.results.segmentation import TYPE_TAG, author_from_tag

    return author_from_tag(tag(segment, TYPE_TAG))


def set_author(segment: slicer.vtkSegment, who: Author) -> None:
    """Let a segment say who drew it."""
    for name, text in who.tags.items():
        set_tag(segment, name, text)


def set_tag(segment: slicer.vtkSegment, name: str, text: str) -> None:
    """Set a tag; an empty text removes it."""
    if text:
        segment.SetTag(name, text)
    else:
        segment.RemoveTag(name)


def organ_key(identity: str, segment: slicer.vtkSegment) -> str:
    """Organ key for a segment: its ID, or for segments of other modules the nearest valid key."""
    from multiorganseg.organs.catalogue import load_catalogue

    if identity in load_catalogue().organs:
        return identity
    words = [word for word in re.split(r"[^A-Za-z0-9]+", identity) if word]
    modifier = _terminology(segment)[2]
    if modifier and modifier.value in _SIDES:
        words = [word for word in words if word not in _SIDES.values()] + [_SIDES[modifier.value]]
    key = "_".join(words)
    return key[0].lower() + key[1:] if key[:1].isalpha() else f"segment_{key}"


def catalogue_from_node(node: slicer.vtkMRMLSegmentationNode) -> Catalogue:
    """A catalogue of a node's segments, with the names and colours that they have now.

    Raises:
        OrganError: Two segments have the same name or the same codes.
    """
    from multiorganseg.organs.catalogue import Catalogue

    segmentation = node.GetSegmentation()
    organs = [_organ(each, segmentation.GetSegment(each)) for each in segmentation.GetSegmentIDs()]
    try:
        return Catalogue({organ.key: organ for organ in organs})
    except OrganError as error:
        raise OrganError(
            _("Segments of {name} cannot be told apart.").format(name=node.GetName()),
            cause=error.cause or error.problem,
            next_step=_("Give each segment a name and a terminology entry of its own."),
        ) from error


def _organ(identity: str, segment: slicer.vtkSegment) -> Organ:
    from multiorganseg.organs.catalogue import Organ, load_catalogue

    red, green, blue = (round(255 * channel) for channel in segment.GetColor())
    key, name, color = organ_key(identity, segment), segment.GetName(), (red, green, blue)
    if (known := load_catalogue().organs.get(key)) is not None:
        return replace(known, name=name, color=color, within=None)
    category, kind, modifier = _terminology(segment)
    side = next((side for side in _SIDES.values() if side in key.split("_")), None)
    return Organ(key, name, category, kind, modifier, color, side, None, None, None)


def _terminology(segment: slicer.vtkSegment) -> tuple[Code | None, Code | None, Code | None]:
    """Category, type and modifier; none of them for the generic entry "Tissue"."""
    from multiorganseg.organs.catalogue import Code

    parts = tag(segment, slicer.vtkSegment.GetTerminologyEntryTagName()).split("~")
    codes = [
        Code(*part.split("^")) if part.count("^") == 2 and part[0] != "^" else None for part in parts[1:4]
    ]
    if len(codes) < 3 or codes[0] is None or codes[1] is None or codes[1].value == _TISSUE:
        return None, None, None
    return codes[0], codes[1], codes[2]

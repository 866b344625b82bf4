"""Which organ a segment of a DICOM SEG is, by all that its codes say.

Source: DICOM PS3.3, section C.8.20.4 (segment description) and table 10-7 (general anatomy).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multiorganseg.organs.catalogue import Catalogue, Code, Organ

if TYPE_CHECKING:
    from pydicom import Dataset

Concept = tuple[str, str]
"""Coding scheme designator and code value."""

_ALTERED: Concept = ("SCT", "49755003")
"""Morphologically Altered Structure: says what it is, but not where."""


@dataclass(frozen=True)
class SegmentCodes:
    """What a segment is coded as.

    Attributes:
        category: Segmented property category; None where the file is silent, as all that follow.
        type: Segmented property type.
        modifiers: Modifiers of the type and of the region, such as a side.
        region: Anatomic region.
        meaning: All of it in words.
    """

    category: Concept | None
    type: Concept | None
    modifiers: frozenset[Concept]
    region: Concept | None
    meaning: str


def segment_codes(item: Dataset) -> SegmentCodes:
    """Read the codes of one item of the Segment Sequence."""
    category = _first(item, "SegmentedPropertyCategoryCodeSequence")
    kind = _first(item, "SegmentedPropertyTypeCodeSequence")
    region = _first(item, "AnatomicRegionSequence")
    modifiers = [
        *_items(kind, "SegmentedPropertyTypeModifierCodeSequence"),
        *_items(region, "AnatomicRegionModifierSequence"),
    ]
    coded = [kind, *modifiers, region]
    return SegmentCodes(
        _concept(category),
        _concept(kind),
        frozenset(concept for concept in map(_concept, modifiers) if concept),
        _concept(region),
        ", ".join(dict.fromkeys(str(each.get("CodeMeaning") or "") for each in coded if each is not None)),
    )


def organ_of(codes: SegmentCodes, label: str, catalogue: Catalogue) -> str:
    """Give the key of the organ that a segment evidently is; empty where that is open.

    Type and modifiers must be the organ's. Then it is an organ that lies within the coded region; or, where
    that is no organ (the abdomen) or not said, the only one of that category, unless its type says no place
    (a neoplasm, a cyst); or the one whose name or key the label is.
    """
    alike = [organ for organ in catalogue.organs.values() if _has_type(organ, codes)]
    strict = [organ for organ in alike if organ.category and _code(organ.category) == codes.category]
    organs = {_code(organ.type) for organ in catalogue.organs.values() if organ.type}
    if codes.region in organs:
        placed = [organ for organ in strict if codes.region in _places(organ, catalogue)]
        if len(placed) == 1:
            return placed[0].key
        alike = placed
    elif len(strict) == 1 and codes.category != _ALTERED:
        return strict[0].key
    named = [organ for organ in alike if _is_name(label, organ)]
    return named[0].key if len(named) == 1 else ""


def own_name(codes: SegmentCodes, label: str, catalogue: Catalogue) -> str:
    """Name a segment that is no organ of the catalogue so that it is not mistaken for one.

    Its label, and its codes in words where the label is the name of an organ of another type.
    """
    mistaken = any(_is_name(label, organ) for organ in catalogue.organs.values())
    known = any(organ.type and _code(organ.type) == codes.type for organ in catalogue.organs.values())
    return described(label, codes) if mistaken and known else label


def described(label: str, codes: SegmentCodes) -> str:
    """Give a label with its codes in words."""
    return f"{label} ({codes.meaning or 'not coded'})"


def _has_type(organ: Organ, codes: SegmentCodes) -> bool:
    modifiers = frozenset([_code(organ.modifier)] if organ.modifier else [])
    return organ.type is not None and _code(organ.type) == codes.type and modifiers == codes.modifiers


def _places(organ: Organ, catalogue: Catalogue) -> Iterator[Concept]:
    """Types of an organ and of all that it lies in; of a neoplasm and the like only of what it lies in."""
    current: Organ | None = organ
    while current is not None:
        if current.type and current.category and _code(current.category) != _ALTERED:
            yield _code(current.type)
        current = catalogue.organs.get(current.within) if current.within else None


def _is_name(label: str, organ: Organ) -> bool:
    return label.casefold().replace("_", " ") in (
        organ.name.casefold(),
        organ.key.casefold().replace("_", " "),
    )


def _code(code: Code) -> Concept:
    return code.scheme, code.value


def _items(data: Dataset | None, name: str) -> list[Any]:
    found: Any = data.get(name) if data is not None else None
    return list(found) if found else []


def _first(data: Dataset | None, name: str) -> Any:
    return next(iter(_items(data, name)), None)


def _concept(item: Any) -> Concept | None:
    value = item.get("CodeValue") or item.get("LongCodeValue") if item is not None else None
    return (str(item.get("CodingSchemeDesignator") or ""), str(value)) if value else None

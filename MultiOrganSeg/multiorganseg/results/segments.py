"""Segments: label values joined with catalogue and statistics, as every format needs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multiorganseg.organs.catalogue import Catalogue, Code, Organ
from multiorganseg.quality.statistics import OrganStatistics
from multiorganseg.results.segmentation import Author, Segmentation

TISSUE = Code("SCT", "85756007", "Tissue")


@dataclass(frozen=True)
class Segment:
    """One organ of a segmentation.

    Attributes:
        value: Label value in the voxels.
        organ: Entry of the catalogue: name, codes and colour.
        statistics: Measurements, or None when none were taken.
        author: Who drew it.
    """

    value: int
    organ: Organ
    statistics: OrganStatistics | None
    author: Author = Author.NETWORK

    @property
    def category(self) -> Code:
        """SNOMED CT category; "Tissue", 3D Slicer's generic entry, for an organ without codes."""
        return self.organ.category if self.organ.category and self.organ.type else TISSUE

    @property
    def type(self) -> Code:
        """SNOMED CT type; "Tissue", 3D Slicer's generic entry, for an organ without codes."""
        return self.organ.type if self.organ.category and self.organ.type else TISSUE

    @property
    def modifier(self) -> Code | None:
        """Side or other modifier of the type; None for an organ without codes."""
        return self.organ.modifier if self.organ.category and self.organ.type else None

    @property
    def unit_color(self) -> tuple[float, float, float]:
        """Colour as (r, g, b) in [0, 1]."""
        r, g, b = self.organ.color
        return r / 255, g / 255, b / 255


def segments_of(segmentation: Segmentation, catalogue: Catalogue) -> tuple[Segment, ...]:
    """Join label table, catalogue and statistics, in ascending order of label value.

    Raises:
        OrganError: The table names an organ that the catalogue lacks.
    """
    statistics = {entry.key: entry for entry in segmentation.statistics}
    return tuple(
        Segment(value, catalogue.get(key), statistics.get(key), segmentation.authors.get(key, Author.NETWORK))
        for value, key in segmentation.table.organs.items()
    )


def present_values(labels: NDArray[np.unsignedinteger]) -> frozenset[int]:
    """Label values but 0 that occur in an array (k, j, i); counted slice by slice to save memory."""
    count = int(labels.max(initial=0)) + 1
    total = np.zeros(count, dtype=np.int64)
    for plane in labels:
        total += np.bincount(plane.ravel(), minlength=count)
    return frozenset(int(value) for value in np.flatnonzero(total) if value)


def model_title(provenance: Mapping[str, Any]) -> str:
    """Name and version of the bundle that made a segmentation; empty when the provenance names none."""
    bundle = provenance.get("bundle", "")
    if isinstance(bundle, Mapping):
        return " ".join(str(bundle[part]) for part in ("name", "version") if bundle.get(part))
    return str(bundle)

"""Statistics as CSV for a spreadsheet and as JSON with the provenance."""

from __future__ import annotations

import json
import math
from pathlib import Path

from multiorganseg.atomic import write_text_atomically
from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.segments import segments_of
from multiorganseg.text import csv_text

Row = dict[str, str | int | float | list[str] | None]


def statistics_rows(segmentation: Segmentation, catalogue: Catalogue, *, modality: str = "CT") -> list[Row]:
    """One row for each organ that has statistics, in ascending order of label value.

    Columns: organ (key), name, snomed_code, snomed_modifier (None without a code), voxels, volume_ml (mL),
    mean_hu for CT or else mean_intensity, confidence in [0, 1] (None for an empty organ), uncertainty in
    [0, 1] likewise (a column only where it was mapped), flags.

    Raises:
        OrganError: The table names an organ that the catalogue lacks.
    """
    mean_column = "mean_hu" if modality == "CT" else "mean_intensity"
    rows: list[Row] = []
    for segment in segments_of(segmentation, catalogue):
        if not (statistics := segment.statistics):
            continue
        organ = segment.organ
        rows.append(
            {
                "organ": organ.key,
                "name": organ.name,
                "snomed_code": organ.type.value if organ.type else None,
                "snomed_modifier": organ.modifier.value if organ.modifier else None,
                "voxels": statistics.voxels,
                "volume_ml": _rounded(statistics.volume_ml, 3),
                mean_column: _rounded(statistics.mean_intensity, 1),
                "confidence": _rounded(statistics.confidence, 4),
                **_uncertainty(statistics.uncertainty),
                "flags": list(statistics.flags),
            }
        )
    return rows


def write_csv(rows: list[Row], path: Path) -> None:
    """Write the rows as CSV, flags joined by "; ".

    Raises:
        ResourceError: The file cannot be written.
    """
    written = ({key: "; ".join(v) if isinstance(v, list) else v for key, v in row.items()} for row in rows)
    write_text_atomically(
        path, csv_text(list(rows[0]) if rows else ["organ", "name", "snomed_code", "voxels"], written)
    )


def write_json(rows: list[Row], segmentation: Segmentation, path: Path) -> None:
    """Write `{"organs": rows, "provenance": …}`.

    Raises:
        ResourceError: The file cannot be written.
    """
    document = {"organs": rows, "provenance": dict(segmentation.provenance)}
    write_text_atomically(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _uncertainty(mean: float | None) -> Row:
    return {} if mean is None else {"uncertainty": _rounded(mean, 4)}


def _rounded(number: float, digits: int) -> float | None:
    return round(float(number), digits) if math.isfinite(number) else None

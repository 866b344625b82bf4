from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.tables import statistics_rows, write_csv, write_json

CATALOGUE = load_catalogue()


def test_csv_has_one_line_an_organ(tmp_path, phantom):
    _, segmentation = phantom.case()
    write_csv(statistics_rows(segmentation, CATALOGUE), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["organ"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(phantom.TABLE.keys)
    liver = next(entry for entry in segmentation.statistics if entry.key == "liver")
    assert float(rows["liver"]["volume_ml"]) == round(liver.volume_ml, 3)
    assert rows["liver"]["voxels"] == str(liver.voxels)
    assert rows["liver"]["snomed_code"] == "10200004"
    assert rows["liver"]["mean_hu"] == "60.0"
    assert rows["gallbladder"]["mean_hu"] == rows["gallbladder"]["confidence"] == ""
    assert rows["aorta"]["flags"] == "cut by the field of view"


def test_json_has_nulls_and_provenance(tmp_path, phantom):
    _, segmentation = phantom.case()
    write_json(statistics_rows(segmentation, CATALOGUE, modality="MR"), segmentation, tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    organs = {row["organ"]: row for row in document["organs"]}
    assert document["provenance"] == phantom.PROVENANCE
    assert organs["gallbladder"]["mean_intensity"] is None
    assert organs["aorta"]["flags"] == ["cut by the field of view"]


def test_uncertainty_is_a_column_where_it_was_mapped(tmp_path, phantom):
    _, segmentation = phantom.case()
    assert all("uncertainty" not in row for row in statistics_rows(segmentation, CATALOGUE))
    mapped = [
        replace(entry, uncertainty=0.12345 if entry.voxels else math.nan) for entry in segmentation.statistics
    ]
    rows = statistics_rows(replace(segmentation, statistics=tuple(mapped)), CATALOGUE)
    assert {row["organ"]: row["uncertainty"] for row in rows} == {
        key: None if key == "gallbladder" else 0.1235 for key in phantom.TABLE.keys
    }
    write_csv(rows, tmp_path / "a.csv")
    assert "confidence,uncertainty,flags" in (tmp_path / "a.csv").read_text(encoding="utf-8")


def test_no_statistics_give_an_empty_table(tmp_path, phantom):
    _, segmentation = phantom.case()
    bare = Segmentation(segmentation.labels, segmentation.affine, segmentation.table)
    write_csv(statistics_rows(bare, CATALOGUE), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "organ,name,snomed_code,voxels\n"

from __future__ import annotations

import json

import pytest

from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import OrganError, TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.project import (
    LabelStatus,
    PartialCases,
    add_organ,
    create_project,
    export_nnunet,
    load_project,
    merge_projects,
    project_catalogue,
)

MASS = CustomOrgan("Böse Masse", (200, 10, 0))


@pytest.fixture
def folder(make_project):
    return make_project("p", {1: "liver"}, {"a": (1,)}).folder


def test_an_own_organ_is_kept_with_name_and_colour(folder):
    project = add_organ(folder, "mass_left", MASS)
    assert load_project(folder) == project
    assert project.custom_organs == {"mass_left": MASS}
    assert project.table.value("mass_left") == 2
    organ = project_catalogue(project).get("mass_left")
    assert (organ.name, organ.color, organ.side) == ("Böse Masse", (200, 10, 0), "left")
    data = json.loads((folder / "project.json").read_text(encoding="utf-8"))
    assert data["custom_organs"] == {"mass_left": {"name": "Böse Masse", "color": [200, 10, 0]}}
    assert add_organ(folder, "spleen").custom_organs == {"mass_left": MASS}


@pytest.mark.parametrize(
    ("key", "custom", "error", "text"),
    [
        ("liver", None, TrainingError, "has the organ 'liver' already"),
        ("mass", MASS, OrganError, "known already.*'other'"),
        ("other", CustomOrgan("Other name", (1, 2, 3)), OrganError, "known already.*'other'"),
        ("spleen", MASS, OrganError, "known already.*'spleen'"),
        ("mass", CustomOrgan("spleen", (1, 2, 3)), OrganError, "known already.*'spleen'"),
        ("livr", None, OrganError, "No organ 'livr'"),
        (
            "My mass",
            CustomOrgan("Mine", (1, 2, 3)),
            OrganError,
            "be added. A key is words.*another key",
        ),
        ("mass", CustomOrgan("Mine", (1, 2, 300)), OrganError, "cannot be added. Its color"),
    ],
)
def test_organs_that_cannot_be_added(folder, key, custom, error, text):
    before = add_organ(folder, "other", MASS)
    with pytest.raises(error, match=text):
        add_organ(folder, key, custom)
    assert load_project(folder) == before


def test_a_project_begins_with_own_organs(tmp_path):
    table = LabelTable({1: "liver", 2: "mass"})
    project = create_project(tmp_path / "p", "P", table, custom_organs={"mass": MASS})
    assert load_project(tmp_path / "p") == project
    with pytest.raises(OrganError, match="mass"):
        create_project(tmp_path / "q", "Q", table)


def test_own_organs_survive_merging_and_export(folder, tmp_path, make_project):
    first = add_organ(folder, "mass", MASS)
    other = make_project("q", {1: "spleen"}, {"b": (1,)}).folder
    second = add_organ(other, "mass", CustomOrgan("Masse", (0, 0, 0)))
    merged = merge_projects([first, second], tmp_path / "all", "All")
    assert load_project(tmp_path / "all") == merged
    assert merged.custom_organs == {"mass": MASS}
    assert merged.matrix.status("b", "mass") is LabelStatus.UNKNOWN
    report = export_nnunet(merged, tmp_path / "Dataset001_All", PartialCases.IGNORE)
    assert report.cases == ("a", "b")

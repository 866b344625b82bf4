from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import Cancelled, MultiOrganSegError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import CancelToken, Progress
from multiorganseg_training.cli.app import app
from multiorganseg_training.project import (
    LabelStatus,
    add_organ,
    create_project,
    find_contradictions,
    load_project,
)
from multiorganseg_training.project.import_dataset import import_into
from multiorganseg_training.project.read_dataset import open_dataset

RULES = {"left kidney": "kidney_left"}


@pytest.fixture
def folder(make_project):
    """A project with one case that knows the spleen by another value than the datasets have."""
    return make_project("mine", {4: "liver", 5: "spleen", 9: "kidney_left"}, {"mine_1": (5,)}).folder


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}


def test_cases_join_those_of_the_project(folder, make_nnunet, voxels_of):
    with open_dataset(make_nnunet(cases={"a": (1, 2), "b": (2,)})) as dataset:
        report = import_into(dataset, folder, RULES)
    project = load_project(folder)
    assert list(project.cases) == ["mine_1", "a", "b"]
    assert report.cases == ("a", "b")
    assert set(np.unique(voxels_of(project, "a"))) == {0, 5, 9}
    row = project.matrix.rows["a"]
    assert (row["spleen"], row["liver"]) == (LabelStatus.ANNOTATED, LabelStatus.UNKNOWN)
    assert report.empty == {"b": ("spleen",)}
    assert project.cases["a"].source == "Dataset201_Abdomen"


def test_a_decathlon_folder_is_told_by_its_content(folder, make_msd):
    with open_dataset(make_msd()) as dataset:
        report = import_into(dataset, folder, {"cancer": "liver"})
    assert report.cases == ("liver_0", "liver_1")
    assert {entry.case for entry in find_contradictions(load_project(folder))} <= {"mine_1"}


def test_own_organs_may_stand_in_a_rule(folder, make_nnunet, voxels_of):
    add_organ(folder, "my_lump", CustomOrgan("My lump", (1, 2, 3)))
    dataset = make_nnunet(labels={"background": 0, "Lump": 1}, cases={"a": (1,)})
    with open_dataset(dataset) as described:
        import_into(described, folder, {"Lump": "my_lump"})
    project = load_project(folder)
    assert (voxels_of(project, "a") == project.table.value("my_lump")).sum() == 20


@pytest.mark.parametrize(
    ("changes", "rules", "said"),
    [
        ({}, {}, "not mapped to organs"),
        ({}, {"left kidney": "pancreas"}, "has no organ pancreas"),
        ({"cases": {"MINE_1": (1, 2)}}, RULES, "cases of these names already"),
        ({"channel_names": {"0": "MRI"}}, RULES, "holds MR, the project CT"),
        ({"cases": {"a": (1, 7)}}, RULES, "7"),
    ],
)
def test_what_does_not_fit_changes_nothing(folder, make_nnunet, changes, rules, said):
    before = files(folder)
    with pytest.raises(MultiOrganSegError, match=said), open_dataset(make_nnunet(**changes)) as dataset:
        import_into(dataset, folder, rules)
    assert files(folder) == before


def test_a_cancelled_import_changes_nothing_and_can_be_repeated(folder, make_nnunet):
    before, token = files(folder), CancelToken()

    def report(stage: str, fraction: float) -> None:
        if stage == "importing" and fraction > 0:
            token.cancel()

    with open_dataset(make_nnunet()) as dataset:
        with pytest.raises(Cancelled):
            import_into(dataset, folder, RULES, Progress(report, token))
        assert files(folder) == before
        import_into(dataset, folder, RULES)
    assert len(load_project(folder).cases) == 3


def test_the_commands_inspect_and_import(folder, make_nnunet, tmp_path):
    dataset = make_nnunet(labels={"background": 0, "Left Kidney": 1, "tumour": 2}, cases={"a": (1, 2)})
    answer = tmp_path / "found.json"
    arguments = ["project", "inspect", str(folder), str(dataset), "--json", str(answer)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    found = json.loads(answer.read_text("utf-8"))
    assert (found["format"], found["cases"]) == ("nnunet", ["a"])
    assert [entry["organ"] for entry in found["labels"]] == ["kidney_left", ""]
    rules = ["--label", "Left Kidney=kidney_left", "--label", "tumour=background"]
    result = CliRunner().invoke(app, ["project", "import", str(folder), str(dataset), *rules, "--events"])
    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert events[-1]["fraction"] == 1.0
    assert "Added 1 case." in result.stdout


def test_an_image_that_comes_twice_is_reported(folder, make_nnunet):
    for name, case in (("Dataset201_First", "a"), ("Dataset202_Again", "c")):
        dataset = make_nnunet(name, cases={case: (1,)})
        command = ["project", "import", str(folder), str(dataset), "--label", "left kidney=kidney_left"]
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, command)
        assert result.exit_code == 0, result.output
        assert ("has the very voxels of a." in result.stdout) == (case == "c")


def test_reports_on_a_project_replace_nothing_of_it(folder, make_nnunet):
    dataset = make_nnunet()
    inputs = [folder / "project.json", dataset / "dataset.json", next((folder / "images").iterdir())]
    before = [path.read_bytes() for path in inputs]
    for path in inputs:
        commands = [["project", "inspect", str(folder), str(dataset), "--json", str(path)]]
        if path != inputs[1]:
            commands += [["project", "status", str(folder), "--matrix", str(path)]]
        for command in commands:
            result = CliRunner().invoke(app, command)
            assert result.exit_code == 6, result.output
            assert "replace the input" in result.stderr
    assert before == [path.read_bytes() for path in inputs]


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    target = create_project(tmp_path / "P", "P", LabelTable.numbered(["liver"])).folder
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(app, ["project", "inspect", str(target), str(tmp_path / "empty")])
    assert result.exit_code == 8
    assert "neither a dataset.json nor a DICOM SEG" in result.stderr

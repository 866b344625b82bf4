from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from multiorganseg_training.cli import app
from multiorganseg_training.project import LabelStatus, load_project


def run(*arguments: object) -> Result:
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})
    return runner.invoke(app, ["project", *map(str, arguments)])


def succeed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_help_teaches():
    text = succeed("--help")
    for command in ("create", "add", "import-nnunet", "import-msd", "merge", "status", "set", "check"):
        assert command in text
    for word in ("annotated", "absent", "unknown", "pseudo", "--label cancer=liver"):
        assert word in text
    assert "tumour=background" in succeed("import-nnunet", "--help")
    assert "Dataset101_Abdomen" in succeed("export-nnunet", "--help")


def test_from_datasets_to_nnunet_and_back(make_msd, make_nnunet, tmp_path):
    assert "2 cases" in succeed("import-msd", make_msd(), tmp_path / "liver", "--label", "cancer=liver")
    rule = ("--label", "left kidney=kidney_left")
    succeed("import-nnunet", make_nnunet(), tmp_path / "two", *rule)
    text = succeed("merge", tmp_path / "liver", tmp_path / "two", "-o", tmp_path / "all", "--name", "Abdomen")
    assert "Abdomen: CT, 4 cases" in text
    assert "kidney_left" in text

    refused = run("export-nnunet", tmp_path / "all", "-o", tmp_path / "Dataset007_All")
    assert refused.exit_code == 8
    assert "--partial ignore" in refused.stderr
    text = succeed(
        "export-nnunet", tmp_path / "all", "-o", tmp_path / "Dataset007_All", "--partial", "ignore"
    )
    assert "Exported 4 of 4 cases" in text
    assert "Lost: In 4 partly known cases" in text
    succeed("import-nnunet", tmp_path / "Dataset007_All", tmp_path / "back")
    assert load_project(tmp_path / "back").matrix == load_project(tmp_path / "all").matrix


def test_set_status_and_check(make_project, tmp_path):
    folder = make_project("p", {1: "liver", 2: "spleen"}, {"a_1": (1, 2), "a_2": (1,), "b": (1, 2)}).folder
    checked = run("check", folder)
    assert checked.exit_code == 8
    assert "a_2" in checked.stdout
    assert "1 thing contradicts" in checked.stderr
    assert "1 entry changed" in succeed(
        "set", folder, "--case", "a_2", "--organ", "spleen", "--status", "absent"
    )
    assert "no contradiction" in succeed("check", folder)
    assert "4 entries changed" in succeed(
        "set", folder, "--case", "a_*", "--organ", "all", "--status", "unknown"
    )
    matrix = load_project(folder).matrix
    assert matrix.known("a_1") == frozenset()
    assert matrix.known("b") == {"liver", "spleen"}
    text = succeed("status", folder, "--cases", "--json", tmp_path / "matrix.json")
    assert "● annotated" in text
    data = json.loads((tmp_path / "matrix.json").read_text(encoding="utf-8"))
    data["cases"]["a_1"] = {"pseudo": ["liver"]}
    (tmp_path / "matrix.json").write_text(json.dumps(data), encoding="utf-8")
    assert "1 entry changed" in succeed("set", folder, "--from", tmp_path / "matrix.json")
    assert load_project(folder).matrix.status("a_1", "liver") is LabelStatus.PSEUDO


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--case", "z*", "--organ", "liver", "--status", "absent"), 8, "No case is called 'z*'"),
        (("--case", "a", "--organ", "aorta", "--status", "absent"), 8, "no organ 'aorta'"),
        (("--case", "a"), 2, "Pass --case, --organ and --status"),
        (("--case", "a", "--organ", "liver", "--status", "seen"), 2, "seen"),
    ],
)
def test_set_what_cannot_be(make_project, arguments, code, text):
    folder = make_project("p", {1: "liver"}, {"a": (1,)}).folder
    result = run("set", folder, *arguments)
    assert result.exit_code == code
    assert text in result.stderr


def test_create_and_add(tmp_path, write_case):
    write_case(tmp_path / "ct.nii.gz", tmp_path / "ct-labels.nii.gz", (1,))
    folder = tmp_path / "new"
    assert "0 cases" in succeed("create", folder, "--organs", "liver, spleen")
    arguments = ("--labels", tmp_path / "ct-labels.nii.gz", "--annotated", "liver", "--absent", "spleen")
    assert "number 1" in succeed("add", folder, tmp_path / "ct.nii.gz", *arguments)
    assert "aorta = 3" in succeed("add-organ", folder, "aorta")
    project = load_project(folder)
    assert project.matrix.known("ct") == {"liver", "spleen"}
    both = run("add", folder, tmp_path / "ct.nii.gz", "--annotated", "liver", "--absent", "liver")
    assert both.exit_code == 2
    assert "'liver' cannot be annotated and absent" in both.stderr


def test_create_from_a_folder(tmp_path, write_case):
    for case in "ab":
        write_case(tmp_path / f"data/images/{case}.nii.gz", tmp_path / f"data/labels/{case}.nii.gz", (6,))
    table = tmp_path / "labels.json"
    table.write_text('{"6": "liver"}', encoding="utf-8")
    assert "2 cases" in succeed("create", tmp_path / "p", "--labels", table, "--data", tmp_path / "data")
    assert load_project(tmp_path / "p").table.organs == {6: "liver"}
    for arguments in ((), ("--organs", "liver", "--data", tmp_path / "data")):
        assert run("create", tmp_path / "q", *arguments).exit_code == 2


def test_rules_that_are_none(make_msd, tmp_path):
    for rules, text in (
        (("cancer",), "is not a rule"),
        (("cancer=liver", "cancer=background"), "has two rules"),
    ):
        options = [part for rule in rules for part in ("--label", rule)]
        result = run("import-msd", make_msd(), tmp_path / "p", *options)
        assert result.exit_code == 2
        assert text in result.stderr
    result = run("import-msd", make_msd(), tmp_path / "p")
    assert result.exit_code == 8
    assert "'cancer=liver_tumor'" in result.stderr

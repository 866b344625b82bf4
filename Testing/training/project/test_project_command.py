from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from multiorganseg_training.cli.app import app
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
    for command in ("create", "add", "add-organ", "annotate", "merge", "status", "set", "check"):
        assert command in text
    for command in ("import-nnunet", "import-msd", "export-nnunet"):
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
    assert "unknown, but labelled" in run("check", folder).stdout
    matrix = load_project(folder).matrix
    assert matrix.known("a_1") == frozenset()
    assert matrix.known("b") == {"liver", "spleen"}
    text = succeed("status", folder, "--cases", "--matrix", tmp_path / "matrix.json")
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
    for arguments, text in (
        (("--annotated", "liver", "--absent", "liver"), "'liver' cannot be annotated and absent"),
        (("--annotated", "liver,liver"), "'liver' is named twice"),
    ):
        both = run("add", folder, tmp_path / "ct.nii.gz", *arguments)
        assert both.exit_code == 2
        assert text in both.stderr
    again = run("add", folder, tmp_path / "ct.nii.gz")
    assert again.exit_code == 8
    assert "has a case 'ct' already" in again.stderr


def test_the_same_image_again_is_reported(tmp_path, write_case):
    write_case(tmp_path / "ct.nii.gz", tmp_path / "ct-labels.nii.gz", (1,))
    write_case(tmp_path / "other.nii.gz", tmp_path / "other-labels.nii.gz", (1,))
    (tmp_path / "again.nii.gz").write_bytes((tmp_path / "ct.nii.gz").read_bytes())
    folder = tmp_path / "new"
    succeed("create", folder, "--organs", "liver")
    assert "Warning" not in succeed("add", folder, tmp_path / "ct.nii.gz")
    assert "Warning: again has the very voxels of ct." in succeed("add", folder, tmp_path / "again.nii.gz")


def test_several_images_at_once(tmp_path, write_case):
    files = [tmp_path / f"ct_{number}.nii.gz" for number in range(3)]
    for file in files:
        write_case(file, tmp_path / "labels.nii.gz", ())
    succeed("create", tmp_path / "new", "--organs", "liver, spleen")
    reported = succeed("add", tmp_path / "new", *files, "--absent", "spleen")
    assert "Added 3 cases; the project has 3." in reported
    project = load_project(tmp_path / "new")
    assert [project.matrix.known(case) for case in ("ct_0", "ct_1", "ct_2")] == [{"spleen"}] * 3
    for option in (("--name", "x"), ("--labels", tmp_path / "labels.nii.gz")):
        refused = run("add", tmp_path / "new", *files, *option)
        assert refused.exit_code == 2
        assert "single image" in refused.stderr


def test_labels_with_a_table_of_their_own(tmp_path, write_case):
    write_case(tmp_path / "ct.nii.gz", tmp_path / "result.nii.gz", (4,))
    (tmp_path / "result.labels.json").write_text('{"labels": {"4": "spleen"}}', encoding="utf-8")
    folder = tmp_path / "new"
    succeed("create", folder, "--organs", "liver, spleen")
    succeed(
        *("add", folder, tmp_path / "ct.nii.gz", "--labels", tmp_path / "result.nii.gz"),
        *("--pseudo", "spleen", "--name", "one"),
    )
    assert load_project(folder).matrix.status("one", "spleen") is LabelStatus.PSEUDO
    assert "no contradiction" in succeed("check", folder)
    result = succeed("annotate", folder, "one", tmp_path / "result.nii.gz", "--organ", "spleen")
    assert "one: spleen is annotated, 20 voxels." in result


def test_organs_of_a_bundle(tmp_path, bundle):
    succeed("create", tmp_path / "p", "--base", bundle.folder)
    assert load_project(tmp_path / "p").table.keys == bundle.metadata.labels.keys
    assert run("create", tmp_path / "q", "--base", bundle.folder, "--organs", "liver").exit_code == 2


def test_an_organ_of_ones_own(tmp_path):
    folder = tmp_path / "p"
    succeed("create", folder, "--organs", "liver")
    said = ("--name", "Böse Masse", "--color", "#C80a00")
    assert "mass = 2" in succeed("add-organ", folder, "mass", *said)
    assert load_project(folder).custom_organs["mass"].color == (200, 10, 0)
    for arguments in (
        ("one", "two", *said),
        ("one", "--name", "One"),
        ("one", "--color", "#123456"),
        ("one", "--name", "One", "--color", "red"),
    ):
        result = run("add-organ", folder, *arguments)
        assert result.exit_code == 2, arguments
        assert "needs one key, a name and a colour" in result.stderr
    again = run("add-organ", folder, "liver")
    assert again.exit_code == 8
    assert "has the organ 'liver' already" in again.stderr


@pytest.fixture
def drawn(make_project, tmp_path, write_case):
    """A project with a case `a`, and label files drawn on its image."""
    folder = make_project("Projekt ö", {1: "liver", 2: "spleen", 3: "aorta"}, {"a": (1, 2, 3)}).folder
    succeed("add-organ", folder, "gallbladder")
    for name, values in (("mask", (0, 0, 0, 1)), ("many", (1, 2, 3, 4)), ("others", (0, 0, 0, 7, 8))):
        write_case(tmp_path / "ct.nii.gz", tmp_path / f"{name}.nii.gz", values)
    return folder


@pytest.mark.parametrize(
    ("file", "organs"), [("mask", "gallbladder"), ("many", "gallbladder"), ("others", "gallbladder=7")]
)
def test_which_voxels_are_meant(drawn, tmp_path, file, organs, voxels_of):
    text = succeed("annotate", drawn, "a", tmp_path / f"{file}.nii.gz", "--organ", organs)
    assert "a: gallbladder is annotated, 20 voxels." in text
    project = load_project(drawn)
    assert (voxels_of(project, "a")[2:4, 3] == 4).all()
    assert "no contradiction" in succeed("check", drawn)


def test_annotate_several_organs_and_absent_ones(drawn, tmp_path):
    said = ("--organ", "gallbladder=7", "--pseudo", "aorta=8")
    text = succeed("annotate", drawn, "a", tmp_path / "others.nii.gz", *said)
    assert "aorta is pseudo, 20 voxels" in text
    succeed("annotate", drawn, "a", "--absent", "aorta")
    row = load_project(drawn).matrix.rows["a"]
    assert [row[key].value for key in ("gallbladder", "aorta")] == ["annotated", "absent"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("mask.nii.gz",), 2, "Say what the case holds"),
        (("mask.nii.gz", "--organ", "aorta", "--absent", "aorta"), 2, "cannot be annotated and absent"),
        (("mask.nii.gz", "--organ", "aorta", "--organ", "aorta=1"), 2, "named twice"),
        (("mask.nii.gz", "--organ", "aorta=x"), 2, "names no label value"),
        (("many.nii.gz", "--organ", "gallbladder=4", "--organ", "aorta=4"), 2, "to gallbladder and aorta"),
        (("others.nii.gz", "--organ", "gallbladder"), 8, "annotation of gallbladder is empty"),
        (("--organ", "gallbladder"), 8, "no labels of gallbladder"),
        (("mask.nii.gz", "--organ", "pancreas"), 8, "no organ 'pancreas'"),
        (("--absent", "liver"), 8, "liver cannot be absent: 20 voxels are annotated"),
    ],
)
def test_annotate_what_cannot_be(drawn, tmp_path, arguments, code, text):
    before = load_project(drawn)
    paths = [tmp_path / part if part.endswith(".gz") else part for part in arguments]
    result = run("annotate", drawn, "a", *paths)
    assert result.exit_code == code, result.output
    assert text in result.stderr
    assert load_project(drawn) == before


def test_the_state_for_other_programs(drawn):
    state = json.loads(succeed("status", drawn, "--json"))
    assert [organ["key"] for organ in state["organs"]] == ["liver", "spleen", "aorta", "gallbladder"]
    assert state["cases"][0]["status"]["gallbladder"] == "unknown"


def test_check_tells_of_unused_files_and_deletes_them_when_asked(drawn):
    (drawn / "images" / "left.nii.gz").write_bytes(b"whole")
    result = run("check", drawn)
    assert result.exit_code == 8
    assert "No case uses images/left.nii.gz." in result.stdout
    assert "--delete-unused" in result.stderr
    assert "Deleted: images/left.nii.gz" in succeed("check", drawn, "--delete-unused")
    assert "no contradiction" in succeed("check", drawn)


def test_a_name_that_looks_like_a_pattern(tmp_path, write_case):
    write_case(tmp_path / "ct.nii.gz", None, ())
    succeed("create", tmp_path / "p", "--organs", "liver")
    for name in ("ct [1]", "ct 1"):
        succeed("add", tmp_path / "p", tmp_path / "ct.nii.gz", "--name", name)
    succeed("set", tmp_path / "p", "--case", "ct [1]", "--organ", "liver", "--status", "absent")
    matrix = load_project(tmp_path / "p").matrix
    assert [matrix.known(name) for name in ("ct [1]", "ct 1")] == [{"liver"}, frozenset()]


def test_set_what_the_voxels_deny(drawn):
    result = run("set", drawn, "--case", "a", "--organ", "liver", "--status", "absent")
    assert result.exit_code == 8
    assert "liver: It is absent, but labelled. (20 voxels)" in result.stderr


def test_create_from_a_folder(tmp_path, write_case):
    for case in "ab":
        write_case(tmp_path / f"data/images/{case}.nii.gz", tmp_path / f"data/labels/{case}.nii.gz", (6,))
    table = tmp_path / "labels.json"
    table.write_text('{"6": "liver"}', encoding="utf-8")
    assert "2 cases" in succeed("create", tmp_path / "p", "--labels", table, "--data", tmp_path / "data")
    assert load_project(tmp_path / "p").table.organs == {6: "liver"}
    for arguments in ((), ("--organs", "liver", "--data", tmp_path / "data")):
        assert run("create", tmp_path / "q", *arguments).exit_code == 2


def test_create_from_a_folder_with_what_is_known(tmp_path, write_case):
    """What nobody contoured is unknown, and its voxels, where there are some, are not taken over."""
    for case, values in {"a": (1, 2), "b": (1,), "c": (1, 2)}.items():
        write_case(tmp_path / f"data/images/{case}.nii.gz", tmp_path / f"data/labels/{case}.nii.gz", values)
    table, matrix = tmp_path / "labels.json", tmp_path / "matrix.json"
    table.write_text('{"1": "larynx", "2": "mandible"}', encoding="utf-8")
    known = {"a": {"annotated": ["larynx", "mandible"]}, "b": {"annotated": ["larynx"]}}
    known["c"] = {"annotated": ["mandible"]}
    said = {"schema_version": 1, "organs": ["larynx", "mandible"], "cases": known}
    matrix.write_text(json.dumps(said), encoding="utf-8")
    options = ("--labels", table, "--matrix", matrix)
    assert "3 cases" in succeed("create", tmp_path / "p", *options, "--data", tmp_path / "data")
    project = load_project(tmp_path / "p")
    assert project.matrix.known("b") == {"larynx"}
    assert project.matrix.status("b", "mandible") is LabelStatus.UNKNOWN
    assert project.matrix.known("c") == {"mandible"}
    assert "no contradiction" in succeed("check", tmp_path / "p")

    assert run("create", tmp_path / "q", *options).exit_code == 2
    del known["c"]
    known["d"] = {}
    matrix.write_text(json.dumps(said), encoding="utf-8")
    refused = run("create", tmp_path / "q", *options, "--data", tmp_path / "data")
    assert refused.exit_code == 8
    assert "It has no row for c." in refused.stderr
    assert "No image is called d." in refused.stderr


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

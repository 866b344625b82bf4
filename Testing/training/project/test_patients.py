from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from typer.testing import CliRunner

from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.cli.app import app
from multiorganseg_training.project import add_case, create_project, load_project, merge_projects

ENGINE = runpy.run_path(str(Path(__file__).parents[2] / "engine" / "results" / "conftest.py"))
TABLE = LabelTable({2: "spleen"})
SECRET = "MRN-1234567"


@pytest.fixture
def series(tmp_path: Path) -> Callable[..., Path]:
    """Write a DICOM series of a patient."""

    def write(name: str, patient: str, issuer: str = "") -> Path:
        folder = tmp_path / name
        volume, _ = ENGINE["case"](ENGINE["grid"]((8, 24, 26)))
        for file in ENGINE["write_dicom_series"](volume, folder):
            data = pydicom.dcmread(file)
            data.PatientID, data.IssuerOfPatientID = patient, issuer
            data.save_as(file)
        return folder

    return write


def test_series_of_a_patient_have_one_code_that_names_nobody(tmp_path, series):
    folder = create_project(tmp_path / "first", "first", TABLE).folder
    for name, patient, issuer in (
        ("one", SECRET, ""),
        ("two", f"{SECRET} ", ""),
        ("three", SECRET, "elsewhere"),
        ("four", "", ""),
    ):
        project = add_case(folder, name, series(name, patient, issuer))
    codes = [project.cases[name].patient for name in ("one", "two", "three", "four")]
    assert codes[0] == codes[1] != codes[2]
    assert codes[0].startswith("dicom-")
    assert codes[3] == ""
    assert load_project(folder) == project
    assert all(SECRET.encode() not in file.read_bytes() for file in folder.rglob("*") if file.is_file())
    other = create_project(tmp_path / "second", "second", TABLE).folder
    elsewhere = add_case(other, "one", tmp_path / "one").cases["one"].patient
    assert elsewhere not in codes, "without the key codes of two projects cannot be compared"


def test_what_the_user_says_goes_before_what_the_image_says(tmp_path, series):
    folder = create_project(tmp_path / "project", "project", TABLE).folder
    assert add_case(folder, "one", series("one", SECRET), patient="P7").cases["one"].patient == "P7"


def test_patients_by_command(tmp_path, write_case):
    folder, image = create_project(tmp_path / "project", "project", TABLE).folder, tmp_path / "ct.nii.gz"
    write_case(image, tmp_path / "labels.nii.gz", (2,))

    def run(*arguments: str) -> int:
        return CliRunner().invoke(app, ["project", *arguments]).exit_code

    assert run("add", str(folder), str(image), "--name", "a_1", "--patient", "P1") == 0
    assert run("add", str(folder), str(image), "--name", "a_2") == 0
    assert load_project(folder).patients == {"a_1": "P1"}
    assert run("set", str(folder), "--case", "a_*", "--patient", "P2") == 0
    assert load_project(folder).patients == {"a_1": "P2", "a_2": "P2"}
    assert run("set", str(folder), "--case", "a_1", "--patient", "") == 0
    assert load_project(folder).patients == {"a_2": "P2"}
    assert run("set", str(folder), "--case", "a_1", "--organ", "spleen", "--patient", "P2") != 0
    with pytest.raises(TrainingError, match="no case 'b'"):
        load_project(folder).with_patient(["b"], "P1")


def test_merged_projects_keep_patients(tmp_path, write_case):
    image = tmp_path / "ct.nii.gz"
    write_case(image, tmp_path / "labels.nii.gz", (2,))
    projects = []
    for name in ("first", "second"):
        folder = create_project(tmp_path / name, name, TABLE).folder
        projects.append(add_case(folder, name, image, patient="P1"))
    merged = merge_projects(projects, tmp_path / "both", "both")
    assert merged.patients == {"first": "P1", "second": "P1"}

"""What a project copies is never more readable than where it came from."""

from __future__ import annotations

import os
import runpy
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from multiorganseg.events import event_log
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes import Volume, read_volume, write_volume
from multiorganseg_training.project import (
    LabelStatus,
    add_case,
    create_project,
    export_nnunet,
    import_folder,
    load_project,
    merge_projects,
    save_annotation,
)
from multiorganseg_training.project.export_dicom_seg import export_dicom_seg
from multiorganseg_training.project.import_dataset import import_into
from multiorganseg_training.project.read_dataset import open_dataset

ENGINE = runpy.run_path(str(Path(__file__).parents[2] / "engine" / "results" / "conftest.py"))
TABLE = LabelTable({1: "spleen", 2: "liver"})
SHAPE = (6, 20, 22)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    previous = os.umask(0o022)
    yield
    os.umask(previous)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images and labels that only their owner may read, and one of each that all may."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 5:9, 5:9], labels[3, 12:15, 12:15] = 1, 2
    voxels = np.random.default_rng(0).integers(-500, 500, SHAPE).astype(np.int16)
    for name, mode in (("private", 0o600), ("open", 0o644)):
        for kind, array in (("images", voxels), ("labels", labels)):
            path = tmp_path / "data" / kind / f"{name}.nii.gz"
            write_volume(Volume(array, np.diag([2.0, 2.0, 3.0, 1.0])), path)
            path.chmod(mode)
    return tmp_path / "data"


def modes(folder: Path, ending: str = "*.nii.gz") -> dict[str, str]:
    return {
        str(path.relative_to(folder)): oct(stat.S_IMODE(path.stat().st_mode))
        for path in sorted(folder.rglob(ending))
    }


def expected(*folders: str, ending: str = ".nii.gz") -> dict[str, str]:
    names = [(f"{folder}/{name}{ending}", mode) for folder in folders for name, mode in PRIVATE_AND_OPEN]
    return dict(sorted(names))


PRIVATE_AND_OPEN = (("private", "0o600"), ("open", "0o644"))


def test_a_copy_keeps_the_mode_and_new_folders_are_their_owners(data, tmp_path):
    project = import_folder(data, tmp_path / "P", TABLE, name="P")
    assert modes(project.folder) == expected("images", "labels")
    assert modes(project.folder, "*s") == {"images": "0o700", "labels": "0o700"}


def test_a_folder_that_was_opened_stays_open(data, tmp_path):
    project = create_project(tmp_path / "P", "P", TABLE)
    (project.folder / "images").mkdir(mode=0o755)
    add_case(project.folder, "open", data / "images" / "open.nii.gz")
    assert modes(project.folder, "images") == {"images": "0o755"}


def test_added_and_annotated_cases(data, tmp_path):
    folder = create_project(tmp_path / "P", "P", TABLE).folder
    for name, _ in PRIVATE_AND_OPEN:
        add_case(folder, name, data / "images" / f"{name}.nii.gz")
        drawn = read_volume(data / "labels" / f"{name}.nii.gz").voxels
        save_annotation(folder, name, drawn, {"liver": LabelStatus.ANNOTATED}, table=TABLE)
    assert modes(folder) == expected("images", "labels")


def test_merged_and_exported_projects(data, tmp_path):
    project = import_folder(data, tmp_path / "P", TABLE, name="P")
    merged = merge_projects([project], tmp_path / "Q", "Q")
    assert set(modes(merged.folder, "private.nii.gz").values()) == {"0o600"}
    export_nnunet(project, tmp_path / "Dataset007_P")
    exported = modes(tmp_path / "Dataset007_P", "private*.nii.gz")
    assert len(exported) == 2
    assert set(exported.values()) == {"0o600"}


def test_cases_from_dicom_are_as_private_as_their_slices(tmp_path):
    truth, made = ENGINE["case"](ENGINE["grid"]((8, 24, 26)))
    slices = ENGINE["write_dicom_series"](truth, tmp_path / "dicom" / "ct")
    slices[3].chmod(0o600)
    folder = create_project(tmp_path / "P", "P", LabelTable(made.table.organs)).folder
    add_case(folder, "ct", tmp_path / "dicom" / "ct")
    save_annotation(folder, "ct", made.labels, {"liver": LabelStatus.ANNOTATED}, table=made.table)
    assert modes(folder) == {"images/ct.nii.gz": "0o600", "labels/ct.nii.gz": "0o600"}
    export_dicom_seg(load_project(folder), tmp_path / "dicom" / "segs", tmp_path / "dicom")
    assert modes(tmp_path / "dicom" / "segs", "*.dcm") == {"ct.dcm": "0o600"}
    again = create_project(tmp_path / "Q", "Q", LabelTable.numbered(["liver"])).folder
    with open_dataset(tmp_path / "dicom") as dataset:
        import_into(dataset, again, {})
    assert set(modes(again).values()) == {"0o600"}


@pytest.fixture
def logged(tmp_path: Path) -> Callable[[str], str]:
    """Write a warning into the log of a run and give the log's text."""

    def log(message: str) -> str:
        path = tmp_path / "Project" / "runs" / "r" / "events.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with event_log(path, tmp_path / "Data") as events:
            events.emit("warning", message=message)
        return path.read_text(encoding="utf-8")

    return log


def test_the_log_of_a_run_names_no_folder(tmp_path, logged):
    text = logged(
        f"{tmp_path}/Project/images/a.nii.gz, {tmp_path}/Data/b.nii.gz, {tmp_path}/Project/runs/r/x"
    )
    assert '"message": "images/a.nii.gz, b.nii.gz, x"' in text

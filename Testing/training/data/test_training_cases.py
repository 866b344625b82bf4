from __future__ import annotations

from pathlib import Path

import pytest

from multiorganseg.errors import TrainingError
from multiorganseg_training.data.cases import Case, find_cases, split_cases


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_cases_come_in_the_order_of_their_names(tmp_path):
    _touch(tmp_path, *(f"{kind}/{name}" for kind in ("images", "labels") for name in ("b.nrrd", "a.nii.gz")))
    _touch(tmp_path, "images/notes.txt", "images/.DS_Store", "labels/c.nii.gz")
    assert find_cases(tmp_path) == [
        Case("a", tmp_path / "images" / "a.nii.gz", tmp_path / "labels" / "a.nii.gz"),
        Case("b", tmp_path / "images" / "b.nrrd", tmp_path / "labels" / "b.nrrd"),
    ]


def test_images_without_labels_are_named(tmp_path):
    _touch(tmp_path, "images/a.nii.gz", "images/b.nii.gz", "labels/b.nii.gz", "images/c.mha", "labels/c.nrrd")
    with pytest.raises(TrainingError) as caught:
        find_cases(tmp_path)
    assert caught.value.cause == "No labels for a, c."


@pytest.mark.parametrize("names", [(), ("images/readme.txt",), ("labels/a.nii.gz",)])
def test_a_folder_without_images(tmp_path, names):
    _touch(tmp_path, *names)
    with pytest.raises(TrainingError, match="holds no image"):
        find_cases(tmp_path)


def test_the_fold_is_taken_out(tmp_path):
    cases = [Case(name, tmp_path, tmp_path) for name in "abcd"]
    train, fold = split_cases(cases, ("d", "b"))
    assert [case.name for case in train] == ["a", "c"]
    assert [case.name for case in fold] == ["b", "d"]
    assert split_cases(cases, ()) == (cases, [])


def test_a_fold_that_does_not_fit(tmp_path):
    cases = [Case(name, tmp_path, tmp_path) for name in "ab"]
    with pytest.raises(TrainingError, match="Missing: x, y"):
        split_cases(cases, ("y", "a", "x"))
    with pytest.raises(TrainingError, match="No case is left"):
        split_cases(cases, ("a", "b"))

from __future__ import annotations

from pathlib import Path

import pytest

from multiorganseg.errors import TrainingError
from multiorganseg_training.data.cases import Case, find_cases, split_cases
from multiorganseg_training.recipe.recipe import DataSpec


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


def _split(names, **said):
    cases = [Case(name, Path(name), None) for name in names]
    return tuple([case.name for case in part] for part in split_cases(cases, DataSpec({}, **said)))


def test_the_fold_is_taken_out():
    assert _split("abcd", validation=("d", "b")) == (["a", "c"], ["b", "d"])
    assert _split("abcd") == (["a", "b", "c", "d"], [])


def test_a_recipe_says_which_cases_train():
    names = ("here_1", "here_2", "there_1", "there_2", "odd [x]")
    assert _split(names, training=("here_*",), validation=("here_2", "there_1")) == (
        ["here_1"],
        ["here_2", "there_1"],
    )
    assert _split(names, training=("there_2", "odd [x]")) == (["there_2", "odd [x]"], [])


def test_cases_that_do_not_fit_are_named():
    with pytest.raises(TrainingError, match="Missing: x, y"):
        _split("ab", validation=("y", "a", "x"))
    with pytest.raises(TrainingError, match=r"Missing: c\*"):
        _split("ab", training=("a", "c*"))
    with pytest.raises(TrainingError, match="No case is left"):
        _split("ab", validation=("a", "b"))
    with pytest.raises(TrainingError, match="No case is left"):
        _split("ab", training=("a",), validation=("a",))

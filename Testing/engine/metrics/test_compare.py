import pytest

from multiorganseg.errors import VolumeError
from multiorganseg.metrics.compare import pair_cases


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_folders_are_matched_by_name_across_formats(tmp_path):
    predictions = touch(tmp_path / "Vorhersage ü", "a.seg.nrrd", "a.labels.json", "b.nii.gz", "extra.mha")
    references = touch(tmp_path / "ref", "a.nii.gz", "b.nii.gz", "c.nii.gz", "notes.txt")
    pairs = pair_cases(predictions, references)
    assert pairs.matched == {
        "a": (predictions / "a.seg.nrrd", references / "a.nii.gz"),
        "b": (predictions / "b.nii.gz", references / "b.nii.gz"),
    }
    assert pairs.without_prediction == ("c",)
    assert pairs.without_reference == ("extra",)


def test_a_segmentation_wins_over_the_image_beside_it(tmp_path):
    folder = touch(tmp_path / "p", "a.nii.gz", "a.seg.nrrd", "a.mha", "b.seg.nii.gz", "b.nii.gz")
    matched = pair_cases(folder, folder).matched
    assert {name: pair[0].name for name, pair in matched.items()} == {"a": "a.seg.nrrd", "b": "b.seg.nii.gz"}


def test_two_files_need_not_have_the_same_name(tmp_path):
    folder = touch(tmp_path, "one.nii.gz", "two.seg.nrrd")
    pairs = pair_cases(folder / "one.nii.gz", folder / "two.seg.nrrd")
    assert pairs.matched == {"two": (folder / "one.nii.gz", folder / "two.seg.nrrd")}


def test_mistakes_are_explained(tmp_path):
    folder, other = touch(tmp_path / "p", "a.nii"), touch(tmp_path / "r", "b.nii")
    with pytest.raises(VolumeError, match="does not exist"):
        pair_cases(tmp_path / "nowhere", folder)
    with pytest.raises(VolumeError, match="folder"):
        pair_cases(folder / "a.nii", folder)
    with pytest.raises(VolumeError, match="No case name"):
        pair_cases(folder, other)

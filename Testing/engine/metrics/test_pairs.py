import pytest

from multiorganseg.errors import VolumeError
from multiorganseg.metrics.pairs import case_name, pair_cases


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


def test_nifti_wins_over_other_formats_of_the_same_case(tmp_path):
    folder = touch(tmp_path / "p", "a.seg.nrrd", "a.nii.gz", "a.mha")
    assert pair_cases(folder, folder).matched["a"][0].name == "a.nii.gz"


def test_two_files_need_not_have_the_same_name(tmp_path):
    folder = touch(tmp_path, "one.nii.gz", "two.seg.nrrd")
    pairs = pair_cases(folder / "one.nii.gz", folder / "two.seg.nrrd")
    assert pairs.matched == {"two": (folder / "one.nii.gz", folder / "two.seg.nrrd")}


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii", "x.seg.nrrd", "x.nrrd", "x.MHA", "x.mhd"])
def test_case_name_drops_the_whole_suffix(tmp_path, name):
    assert case_name(tmp_path / name) == "x"


def test_mistakes_are_explained(tmp_path):
    folder, other = touch(tmp_path / "p", "a.nii"), touch(tmp_path / "r", "b.nii")
    with pytest.raises(VolumeError, match="does not exist"):
        pair_cases(tmp_path / "nowhere", folder)
    with pytest.raises(VolumeError, match="folder"):
        pair_cases(folder / "a.nii", folder)
    with pytest.raises(VolumeError, match="No case name"):
        pair_cases(folder, other)

import pytest

from multiorganseg.volumes.names import case_name, is_image_name, volume_suffix


@pytest.mark.parametrize(
    ("name", "case", "suffix"),
    [
        ("ct.nii.gz", "ct", ".nii.gz"),
        ("a.b.NRRD", "a.b", ".NRRD"),
        ("x.seg.nrrd", "x", ".seg.nrrd"),
        ("x.seg.nii.gz", "x", ".seg.nii.gz"),
        ("x.uncertainty.nii.gz", "x", ".uncertainty.nii.gz"),
        ("Fall ä.mha", "Fall ä", ".mha"),
        ("1.2.840.1", "1.2.840.1", ""),
        ("slice.dcm", "slice", ".dcm"),
    ],
)
def test_case_and_suffix(name: str, case: str, suffix: str) -> None:
    assert case_name(name) == case
    assert volume_suffix(name) == suffix


def test_results_are_no_images() -> None:
    names = ("ct.nii.gz", "ct.MHD", "ct.seg.nrrd", "ct.seg.nii.gz", "ct.uncertainty.nii.gz", "a.txt", "b.dcm")
    assert [name for name in names if is_image_name(name)] == ["ct.nii.gz", "ct.MHD"]

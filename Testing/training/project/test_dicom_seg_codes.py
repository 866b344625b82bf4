"""A segment of a DICOM SEG is an organ by category, type, modifiers and region together, never by some."""

from __future__ import annotations

import runpy
from pathlib import Path

import pydicom
import pytest

from multiorganseg.errors import MultiOrganSegError, VolumeError
from multiorganseg.organs.catalogue import Catalogue, Code, Organ, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.results.dicom_seg import write_dicom_seg
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.volumes.read import read_volume
from multiorganseg_training.project.dicom_seg import organ_of, own_name, segment_codes
from multiorganseg_training.project.read_dataset import open_dataset
from multiorganseg_training.project.read_dicom_seg import has_dicom_seg

ENGINE = runpy.run_path(str(Path(__file__).parents[2] / "engine" / "results" / "conftest.py"))
CATALOGUE = load_catalogue()
ORGANS = [organ for organ in CATALOGUE.organs.values() if organ.type]
ALTERED = "49755003"


def coded(code: Code) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item


def segment(organ: Organ, region: str | None = None, label: str = "Segment 1") -> pydicom.Dataset:
    """An item of the Segment Sequence with the codes of an organ."""
    assert organ.category
    assert organ.type
    item = pydicom.Dataset()
    item.SegmentNumber, item.SegmentLabel = 1, label
    item.SegmentedPropertyCategoryCodeSequence = [coded(organ.category)]
    item.SegmentedPropertyTypeCodeSequence = [coded(organ.type)]
    if organ.modifier:
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded(organ.modifier)]
    if region:
        code = CATALOGUE.get(region).type
        assert code
        item.AnatomicRegionSequence = [coded(code)]
    return item


def reported(item: pydicom.Dataset, catalogue: Catalogue = CATALOGUE) -> str:
    return organ_of(segment_codes(item), str(item.SegmentLabel), catalogue)


@pytest.mark.parametrize("organ", ORGANS, ids=lambda organ: organ.key)
def test_every_organ_comes_back_as_itself_or_not_at_all(organ: Organ) -> None:
    assert reported(segment(organ, organ.within)) in (organ.key, "")
    assert reported(segment(organ, organ.within, organ.name)) == organ.key
    assert reported(segment(organ, label=organ.name)) == organ.key
    assert reported(segment(organ)) in (organ.key, "")


@pytest.mark.parametrize("organ", ORGANS, ids=lambda organ: organ.key)
def test_another_region_is_never_the_organ(organ: Organ) -> None:
    wrong = "femur_left" if organ.key != "femur_left" else "spleen"
    if CATALOGUE.get(wrong).type != CATALOGUE.get(organ.within or organ.key).type:
        assert reported(segment(organ, wrong, organ.name)) != organ.key or organ.within == "femur_left"


@pytest.mark.parametrize(
    ("key", "region", "wanted"),
    [
        ("liver_cyst", "liver", "liver_cyst"),
        ("liver_cyst", "pancreas", "pancreas_cyst"),
        ("liver_cyst", "spleen", ""),
        ("liver_cyst", None, ""),
        ("kidney_tumor_right", "kidney_right", "kidney_tumor_right"),
        ("kidney_tumor_right", "adrenal_gland_right", "adrenal_tumor_right"),
        ("kidney_tumor_right", None, ""),
        ("lung_vessels", "lungs", "lung_vessels"),
        ("lung_vessels", "liver", "liver_vessels"),
        ("lung_vessels", None, ""),
        ("lung_nodule", None, ""),
        ("liver", None, "liver"),
        ("liver", "spleen", ""),
        ("jejunum", None, "jejunum"),
        ("kidney_right", None, "kidney_right"),
    ],
)
def test_regions_decide(key: str, region: str | None, wanted: str) -> None:
    assert reported(segment(CATALOGUE.get(key), region)) == wanted


def test_a_side_may_stand_with_the_region() -> None:
    item = segment(CATALOGUE.get("kidney_tumor"), "kidney_right")
    right = CATALOGUE.get("kidney_right").modifier
    assert right
    item.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [coded(right)]
    assert reported(item) == "kidney_tumor_right"


def test_another_category_or_modifier_or_scheme_is_another_structure() -> None:
    item = segment(CATALOGUE.get("liver"))
    item.SegmentedPropertyCategoryCodeSequence[0].CodeValue = ALTERED
    assert reported(item) == ""
    item = segment(CATALOGUE.get("kidney_right"))
    kind = item.SegmentedPropertyTypeCodeSequence[0]
    kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue = "255208005"
    assert reported(item) == ""
    item = segment(CATALOGUE.get("liver"))
    item.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator = "99LOCAL"
    assert reported(item) == ""
    assert reported(pydicom.Dataset.from_json({"00620005": {"vr": "LO", "Value": ["Liver"]}})) == ""


def test_a_label_that_contradicts_the_codes_names_no_organ() -> None:
    item = segment(CATALOGUE.get("liver_cyst"), label="Liver")
    assert reported(item) == ""
    assert own_name(segment_codes(item), "Liver", CATALOGUE) == "Liver (Cyst)"
    assert own_name(segment_codes(item), "my lump", CATALOGUE) == "my lump"


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    """A series and a segmentation of it with a liver cyst where the liver is, and a spleen."""
    folder = tmp_path / "dicom"
    volume, _ = ENGINE["case"](ENGINE["grid"]((8, 24, 26)))
    files = ENGINE["write_dicom_series"](volume, folder / "series")
    _, truth = ENGINE["case"](read_volume(folder / "series").grid)
    table = LabelTable({2: "spleen", 3: "kidney_cyst_right", 5: "pancreas_cyst", 6: "liver_cyst", 9: "aorta"})
    write_dicom_seg(Segmentation(truth.labels, truth.affine, table), folder / "a.dcm", CATALOGUE, files)
    return folder


def rewrite(path: Path, change) -> None:
    seg = pydicom.dcmread(path, force=True)
    change(seg)
    seg.save_as(path, enforce_file_format=True)


def test_structures_of_one_type_stay_apart(dicom: Path) -> None:
    with open_dataset(dicom) as dataset:
        assert set(dataset.labels.values()) == {"spleen", "kidney_cyst_right", "liver_cyst", "aorta"}


def test_unknown_structures_of_one_label_stay_apart(dicom: Path) -> None:
    def change(seg: pydicom.Dataset) -> None:
        for number, item in enumerate(seg.SegmentSequence):
            item.SegmentLabel = "Finding"
            kind = item.SegmentedPropertyTypeCodeSequence[0]
            kind.CodeValue, kind.CodeMeaning = f"99{number // 2}", f"Kind {number // 2}"
            for name in ("SegmentedPropertyTypeModifierCodeSequence",):
                if name in kind:
                    del kind[name]
            if "AnatomicRegionSequence" in item:
                del item["AnatomicRegionSequence"]

    rewrite(dicom / "a.dcm", change)
    with open_dataset(dicom) as dataset:
        assert set(dataset.labels.values()) == {"Finding (Kind 0)", "Finding (Kind 1)"}


def drop(name: str):
    def change(seg: pydicom.Dataset) -> None:
        del seg[name]

    return change


def drop_numbers(seg: pydicom.Dataset) -> None:
    for item in seg.SegmentSequence:
        del item["SegmentNumber"]


def drop_a_segment(seg: pydicom.Dataset) -> None:
    """Frames of it stay, which must not be lost in silence."""
    del seg.SegmentSequence[-1]


@pytest.mark.parametrize(
    "change",
    [
        drop("SegmentSequence"),
        drop("SharedFunctionalGroupsSequence"),
        drop("PerFrameFunctionalGroupsSequence"),
        drop_numbers,
        drop_a_segment,
    ],
    ids=["segments", "shared groups", "frame groups", "numbers", "a segment"],
)
def test_a_damaged_seg_is_refused_with_a_typed_error(dicom: Path, change) -> None:
    rewrite(dicom / "a.dcm", change)
    assert has_dicom_seg(dicom)
    with pytest.raises(VolumeError) as caught, open_dataset(dicom):
        pass
    assert caught.value.next_step


def test_a_seg_without_pixels_or_preamble_is_found(dicom: Path) -> None:
    whole = (dicom / "a.dcm").read_bytes()
    (dicom / "a.dcm").write_bytes(whole[132:])
    with open_dataset(dicom) as dataset:
        assert "liver_cyst" in dataset.labels.values()
    rewrite(dicom / "a.dcm", drop("PixelData"))
    assert has_dicom_seg(dicom)
    with pytest.raises(MultiOrganSegError), open_dataset(dicom):
        pass

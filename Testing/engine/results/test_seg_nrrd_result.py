from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from multiorganseg.errors import OrganError, VolumeError
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.results.nifti import read_label_table
from multiorganseg.results.seg_nrrd import PROVENANCE_KEY, read_seg_nrrd_table, write_seg_nrrd
from multiorganseg.results.segmentation import Author, Segmentation
from multiorganseg.volumes.write import write_nrrd

CATALOGUE = load_catalogue()


def test_slicerio_reads_names_colours_codes_and_voxels(tmp_path, phantom):
    path = tmp_path / "Bäuche 1.seg.nrrd"
    _, segmentation = phantom.case()
    write_seg_nrrd(segmentation, path, CATALOGUE)

    read = slicerio.read_segmentation(str(path))
    np.testing.assert_array_equal(read["voxels"].transpose(2, 1, 0), segmentation.labels)
    np.testing.assert_allclose(read["ijkToLPS"], segmentation.affine)
    assert read["masterRepresentation"] == "Binary labelmap"
    assert read["containedRepresentationNames"] == ["Binary labelmap"]
    assert read["referenceImageExtentOffset"] == [0, 0, 0]
    assert [segment["id"] for segment in read["segments"]] == list(phantom.TABLE.keys)
    assert [segment["labelValue"] for segment in read["segments"]] == list(phantom.TABLE.organs)
    assert {segment["layer"] for segment in read["segments"]} == {0}
    kidney = read["segments"][1]
    assert kidney["name"] == "Right kidney"
    np.testing.assert_allclose(
        kidney["color"], np.array(CATALOGUE.get("kidney_right").color) / 255, atol=1e-5
    )
    assert kidney["terminology"] == {
        "contextName": "Segmentation category and type - 3D Slicer General Anatomy list",
        "category": ["SCT", "123037004", "Anatomical Structure"],
        "type": ["SCT", "64033007", "Kidney"],
        "typeModifier": ["SCT", "24028007", "Right"],
        "anatomicContextName": "Anatomic codes - DICOM master list",
    }
    assert kidney["tags"]["DICOM.SegmentAlgorithmType"] == "AUTOMATIC"
    assert kidney["tags"]["MultiOrganSeg.Confidence"] == "0.9000"
    assert kidney["status"] == "completed"
    assert read["segments"][4]["tags"]["MultiOrganSeg.Flags"] == "cut by the field of view"
    assert read["segments"][2]["status"] == "notstarted"


def test_each_segment_says_who_drew_it(tmp_path, phantom):
    path = tmp_path / "a.seg.nrrd"
    _, segmentation = phantom.case()
    authors = {"spleen": Author.PEOPLE, "liver": Author.CORRECTED}
    write_seg_nrrd(replace(segmentation, authors=authors), path, CATALOGUE)
    tags = {each["id"]: each["tags"] for each in slicerio.read_segmentation(str(path))["segments"]}
    assert tags["spleen"]["DICOM.SegmentAlgorithmType"] == "MANUAL"
    assert "DICOM.SegmentAlgorithmName" not in tags["spleen"]
    assert "MultiOrganSeg.Model" not in tags["spleen"]
    assert tags["liver"]["DICOM.SegmentAlgorithmType"] == "SEMIAUTOMATIC"
    assert tags["liver"]["DICOM.SegmentAlgorithmName"] == "MultiOrganSeg"
    assert tags["aorta"]["DICOM.SegmentAlgorithmType"] == "AUTOMATIC"


def test_all_segments_share_the_extent_of_all_labels(tmp_path, phantom):
    path = tmp_path / "a.seg.nrrd"
    _, segmentation = phantom.case()
    write_seg_nrrd(segmentation, path, CATALOGUE)
    extents = {tuple(segment["extent"]) for segment in slicerio.read_segmentation(str(path))["segments"]}
    k, j, i = (np.unique(part) for part in np.nonzero(segmentation.labels))
    assert extents == {(i[0], i[-1], j[0], j[-1], k[0], k[-1])}


def test_reference_geometry_is_the_volume_in_ras(tmp_path, phantom):
    path = tmp_path / "a.seg.nrrd"
    _, segmentation = phantom.case()
    write_seg_nrrd(segmentation, path, CATALOGUE)
    parameters = slicerio.read_segmentation(str(path), skip_voxels=True)["conversionParameters"]
    (geometry,) = [entry["value"] for entry in parameters if entry["name"] == "Reference image geometry"]
    numbers = [float(number) for number in geometry.rstrip(";").split(";")]
    np.testing.assert_allclose(
        np.array(numbers[:16]).reshape(4, 4), np.diag([-1, -1, 1, 1]) @ segmentation.affine
    )
    assert numbers[16:] == [0, 43, 0, 39, 0, 23]


def test_simpleitk_reads_the_provenance_unharmed(tmp_path, phantom):
    path = tmp_path / "a.seg.nrrd"
    _, segmentation = phantom.case()
    write_seg_nrrd(segmentation, path, CATALOGUE)
    image = sitk.ReadImage(str(path))
    assert json.loads(image.GetMetaData(PROVENANCE_KEY)) == phantom.PROVENANCE


def test_uncertainty_is_a_tag_where_it_was_mapped(tmp_path, phantom):
    _, segmentation = phantom.case()
    first, *others = segmentation.statistics
    mapped = replace(segmentation, statistics=(replace(first, uncertainty=0.25), *others))
    write_seg_nrrd(mapped, tmp_path / "a.seg.nrrd", CATALOGUE)
    segments = slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd"))["segments"]
    reported = {each["id"]: each["tags"].get("MultiOrganSeg.Uncertainty") for each in segments}
    assert reported == {first.key: "0.2500", **{each.key: None for each in others}}


def test_tags_say_what_was_measured_and_where_it_came_from(tmp_path, phantom):
    path = tmp_path / "a.seg.nrrd"
    _, segmentation = phantom.case()
    provenance = {
        **phantom.PROVENANCE,
        "software": "MultiOrganSeg 0.1 | two",
        "quality": "best",
        "modality": "CT",
    }
    write_seg_nrrd(
        Segmentation(
            segmentation.labels, segmentation.affine, phantom.TABLE, segmentation.statistics, provenance
        ),
        path,
        CATALOGUE,
    )
    segments = {segment["id"]: segment for segment in slicerio.read_segmentation(str(path))["segments"]}
    for statistics in segmentation.statistics:
        tags = segments[statistics.key]["tags"]
        assert tags["MultiOrganSeg.Voxels"] == str(statistics.voxels)
        assert float(tags["MultiOrganSeg.VolumeMl"]) == pytest.approx(statistics.volume_ml, abs=5e-4)
        assert ("MultiOrganSeg.MeanIntensity" in tags) == bool(statistics.voxels)
        assert ("MultiOrganSeg.Confidence" in tags) == bool(statistics.voxels)
        assert ("MultiOrganSeg.Flags" in tags) == bool(statistics.flags)
        assert tags["MultiOrganSeg.Model"] == "abdomen-ct 1.0.0"
        assert tags["MultiOrganSeg.ModelSha256"] == "0123abcd"
        assert tags["MultiOrganSeg.Software"] == "MultiOrganSeg 0.1 / two"
        assert tags["MultiOrganSeg.Quality"] == "best"
        assert tags["MultiOrganSeg.Modality"] == "CT"


def test_organ_without_code_is_tissue(tmp_path, phantom):
    uncoded = next(organ for organ in CATALOGUE.organs.values() if organ.key == "spleen")
    uncoded = type(uncoded)(**{**vars(uncoded), "category": None, "type": None, "modifier": None})
    path = tmp_path / "a.seg.nrrd"
    _, segmentation = phantom.case()
    write_seg_nrrd(segmentation, path, Catalogue({**CATALOGUE.organs, "spleen": uncoded}))
    terminology = slicerio.read_segmentation(str(path))["segments"][0]["terminology"]
    assert terminology["category"] == terminology["type"] == ["SCT", "85756007", "Tissue"]


def test_wide_labels_and_empty_segmentation(tmp_path, phantom):
    _, segmentation = phantom.case()
    wide = Segmentation(segmentation.labels.astype(np.uint16) * 100, segmentation.affine, phantom.TABLE)
    write_seg_nrrd(wide, tmp_path / "wide.seg.nrrd", CATALOGUE)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "wide.seg.nrrd"))), wide.labels
    )
    empty = Segmentation(np.zeros_like(segmentation.labels), segmentation.affine, phantom.TABLE)
    write_seg_nrrd(empty, tmp_path / "empty.seg.nrrd", CATALOGUE)
    read = slicerio.read_segmentation(str(tmp_path / "empty.seg.nrrd"))
    assert read["segments"][0]["extent"] == [0, -1, 0, -1, 0, -1]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    shear=st.floats(-0.6, 0.6),
    flip=st.booleans(),
)
def test_oblique_sheared_and_flipped_grids_keep_their_geometry(
    tmp_path, angles, spacing, shear, flip, phantom
):
    directions = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    directions[:, 2] += shear * directions[:, 1]
    directions = directions * spacing * (-1 if flip else 1, 1, 1)
    where = phantom.grid((3, 4, 5), directions)
    labels = np.arange(60, dtype=np.uint8).reshape(where.shape) % 2 * 6
    write_seg_nrrd(Segmentation(labels, where.affine, phantom.TABLE), tmp_path / "a.seg.nrrd", CATALOGUE)
    image = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), labels)
    for index in [(0, 0, 0), (4, 3, 2), (1, 3, 0)]:
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint(index), where.to_patient(index[::-1]), atol=1e-4
        )
    np.testing.assert_allclose(
        slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd"))["ijkToLPS"], where.affine
    )


def test_label_table_comes_back(tmp_path, phantom):
    path = tmp_path / "a.seg.nrrd"
    _, segmentation = phantom.case()
    write_seg_nrrd(segmentation, path, CATALOGUE)
    assert read_seg_nrrd_table(path) == phantom.TABLE
    assert read_label_table(path) == phantom.TABLE


def test_unreadable_and_unnamed_files_are_refused(tmp_path):
    (tmp_path / "bad.seg.nrrd").write_bytes(b"nothing")
    with pytest.raises(VolumeError):
        read_seg_nrrd_table(tmp_path / "bad.seg.nrrd")
    sitk.WriteImage(sitk.Image(2, 2, 2, sitk.sitkUInt8), str(tmp_path / "plain.nrrd"))
    with pytest.raises(OrganError, match="names no segments"):
        read_seg_nrrd_table(tmp_path / "plain.nrrd")


def test_layers_with_one_label_value_are_refused(tmp_path):
    image = sitk.Image(2, 2, 2, sitk.sitkUInt8)
    for index in (0, 1):
        image.SetMetaData(f"Segment{index}_ID", f"organ{index}")
        image.SetMetaData(f"Segment{index}_LabelValue", "1")
    sitk.WriteImage(image, str(tmp_path / "layers.seg.nrrd"))
    with pytest.raises(OrganError, match="layers"):
        read_seg_nrrd_table(tmp_path / "layers.seg.nrrd")


def test_unknown_organ_writes_nothing(tmp_path, phantom):
    _, segmentation = phantom.case()
    unknown = Segmentation(segmentation.labels, segmentation.affine, type(phantom.TABLE)({1: "third_lung"}))
    with pytest.raises(OrganError, match="third_lung"):
        write_seg_nrrd(unknown, tmp_path / "a.seg.nrrd", CATALOGUE)
    assert not list(tmp_path.iterdir())


def named(folder, *segments):
    """A small .seg.nrrd whose segments have these IDs, names and terminologies."""
    pairs = {}
    for index, (identity, name, entry) in enumerate(segments):
        prefix = f"Segment{index}_"
        tags = f"TerminologyEntry:{entry}|Segmentation.Status:inprogress|"
        pairs |= {f"{prefix}ID": identity, f"{prefix}Name": name, f"{prefix}LabelValue": str(index + 1)}
        pairs |= {f"{prefix}Tags": tags} if entry else {}
    path = folder / "by_slicer.seg.nrrd"
    write_nrrd(path, np.zeros((2, 3, 4), np.uint8), np.eye(4), pairs)
    return path


ORGANS = "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
ANYWHERE = "Anatomic codes - DICOM master list~^^~^^"
TISSUE = "Segmentation category and type~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~Anatomic codes~^^~^^"
LEFT_KIDNEY = f"{ORGANS}~SCT^64033007^Kidney~SCT^7771000^Left~{ANYWHERE}"


@pytest.mark.parametrize(
    ("segment", "key"),
    [
        (("Segment_1", "liver", ""), "liver"),
        (("Segment_1", "Liver", TISSUE), "liver"),
        (("Segment_3", "Left Kidney", LEFT_KIDNEY), "kidney_left"),
        (("Segment_3", "the one on the left", LEFT_KIDNEY), "kidney_left"),
        (("kidney_left", "renamed", ""), "kidney_left"),
        (("Segment_2", "Appendix mass", TISSUE), "appendix_mass"),
        (("my_mass", "What I drew", ""), "my_mass"),
        (("Segment_2", "", ""), "Segment_2"),
    ],
)
def test_a_segment_is_found_by_id_name_or_code(tmp_path, segment, key):
    path = named(tmp_path, ("spleen", "Spleen", ""), segment)
    assert read_label_table(path).organs == {1: "spleen", 2: key}


def test_a_segment_that_is_several_organs_is_refused(tmp_path):
    with pytest.raises(OrganError, match="several organs") as caught:
        read_label_table(named(tmp_path, ("Segment_1", "liver", LEFT_KIDNEY)))
    assert "name 'liver' means liver; its code means kidney_left" in caught.value.cause
    with pytest.raises(OrganError, match="liver more than once"):
        read_label_table(named(tmp_path, ("Segment_1", "liver", ""), ("Segment_2", "Liver", "")))


@pytest.mark.parametrize("value", ["x", "0", "1.0", "70000"])
def test_an_impossible_label_value_is_refused(tmp_path, value):
    pairs = {"Segment0_ID": "liver", "Segment0_LabelValue": value}
    write_nrrd(tmp_path / "a.seg.nrrd", np.zeros((2, 3, 4), np.uint8), np.eye(4), pairs)
    with pytest.raises(VolumeError, match="impossible label value"):
        read_label_table(tmp_path / "a.seg.nrrd")


@pytest.mark.parametrize(
    ("left", "organs"),
    [
        ({0: "spleen", 2: "liver"}, {1: "spleen", 3: "liver"}),
        ({3: "liver"}, {4: "liver"}),
        ({11: "spleen", 2: "liver"}, {3: "liver", 12: "spleen"}),
    ],
)
def test_segments_beyond_a_gap_in_the_numbers_are_kept(tmp_path, left, organs):
    pairs = {}
    for number, key in left.items():
        pairs |= {f"Segment{number}_ID": key, f"Segment{number}_LabelValue": str(number + 1)}
    write_nrrd(tmp_path / "a.seg.nrrd", np.zeros((2, 3, 4), np.uint8), np.eye(4), pairs)
    assert read_label_table(tmp_path / "a.seg.nrrd").organs == organs


def test_a_segment_without_an_id_goes_by_its_name_and_one_without_either_is_refused(tmp_path):
    pairs = {"Segment0_ID": "spleen", "Segment1_Name": "Liver", "Segment1_LabelValue": "2"}
    path = tmp_path / "a.seg.nrrd"
    write_nrrd(path, np.zeros((2, 3, 4), np.uint8), np.eye(4), pairs)
    assert read_label_table(path).organs == {1: "spleen", 2: "liver"}
    write_nrrd(path, np.zeros((2, 3, 4), np.uint8), np.eye(4), {**pairs, "Segment2_LabelValue": "3"})
    with pytest.raises(OrganError, match="without ID and name"):
        read_label_table(path)

"""The border between MRML and the engine, on real MRML."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from multiorganseg.errors import OrganError, VolumeError

Make = Callable[..., Any]
MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


def add_transform(matrix: np.ndarray, *nodes: Any) -> Any:
    import slicer

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Move")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def turned(angles: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = (10.0, -20.0, 30.0)
    return matrix


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    shear=st.floats(-0.4, 0.4),
    flip=st.booleans(),
    move=st.one_of(st.none(), st.tuples(*[st.floats(-180, 180)] * 3)),
)
def test_voxels_lie_where_the_scene_shows_them(
    make_volume: Make, angles: Any, spacing: Any, shear: float, flip: bool, move: Any
) -> None:
    import slicer

    from MultiOrganSegLib.mrml import volume_from_node

    matrix = turned(angles)
    matrix[:3, :3] = matrix[:3, :3] @ np.diag(spacing) * (-1 if flip else 1)
    matrix[:3, 2] += shear * matrix[:3, 1]
    node = make_volume(matrix)
    if move:
        add_transform(turned(move) @ (MIRROR if flip else np.eye(4)), node)
    volume = volume_from_node(node)
    for index in ((0, 0, 0), (43, 39, 11), (3, 17, 5)):
        ras = (matrix @ [*index, 1.0])[:3]
        world = np.zeros(3)
        node.TransformPointToWorld(ras, world)
        np.testing.assert_allclose(
            volume.grid.to_patient(index[::-1]), world * (-1, -1, 1), atol=1e-4 * np.abs(world).max()
        )
    assert np.shares_memory(volume.voxels, slicer.util.arrayFromVolume(node))
    assert volume.source == "CT"
    slicer.mrmlScene.Clear(0)


def test_a_transformed_volume_is_the_hardened_one(make_volume: Make) -> None:
    import slicer

    from MultiOrganSegLib.mrml import volume_from_node

    moved, hardened = make_volume(), make_volume()
    add_transform(turned((90, 30, 0)) @ MIRROR, moved, hardened)
    slicer.vtkSlicerTransformLogic().hardenTransform(hardened)
    assert hardened.GetParentTransformNode() is None
    first, second = volume_from_node(moved), volume_from_node(hardened)
    np.testing.assert_allclose(first.affine, second.affine, atol=1e-6)
    np.testing.assert_array_equal(first.voxels, second.voxels)


def _nothing() -> Any:
    return None


def _added(kind: str) -> Callable[[], Any]:
    def add() -> Any:
        import slicer

        return slicer.mrmlScene.AddNewNodeByClass(kind, "it")

    return add


def _with_voxels(kind: str, shape: tuple[int, ...]) -> Callable[[], Any]:
    def add() -> Any:
        import slicer

        node = slicer.mrmlScene.AddNewNodeByClass(kind, "it")
        slicer.util.updateVolumeFromArray(node, np.ones(shape, np.uint8))
        return node

    return add


def _under_grid_transform() -> Any:
    import slicer
    import vtk

    node = _with_voxels("vtkMRMLScalarVolumeNode", (4, 5, 6))()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Bend")
    spline = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for point in ((0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9), (9, 9, 9)):
        points.InsertNextPoint(point)
    spline.SetSourceLandmarks(points)
    bent = vtk.vtkPoints()
    bent.DeepCopy(points)
    bent.SetPoint(4, 12, 9, 9)
    spline.SetTargetLandmarks(bent)
    transform.SetAndObserveTransformToParent(spline)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return node


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (_nothing, "No volume is chosen"),
        (_added("vtkMRMLScalarVolumeNode"), "it is empty"),
        (_with_voxels("vtkMRMLVectorVolumeNode", (4, 5, 6, 3)), "colour or vector"),
        (_with_voxels("vtkMRMLScalarVolumeNode", (1, 5, 6)), "single slice"),
        (_with_voxels("vtkMRMLLabelMapVolumeNode", (4, 5, 6)), "no scalar volume"),
        (_added("vtkMRMLSequenceNode"), "sequence"),
        (_added("vtkMRMLModelNode"), "no scalar volume"),
        (_under_grid_transform, "non-linear"),
    ],
)
def test_what_cannot_be_segmented_is_refused(host: Any, make: Callable[[], Any], text: str) -> None:
    from MultiOrganSegLib.logic import Logic
    from MultiOrganSegLib.mrml import volume_from_node

    node = make()
    for call in (volume_from_node, Logic().start):
        with pytest.raises(VolumeError, match=text) as caught:
            call(node)
        assert caught.value.next_step


def test_an_impossible_geometry_is_refused(make_volume: Make) -> None:
    from MultiOrganSegLib.mrml import volume_from_node

    node = make_volume(name="CT 5/6")
    add_transform(np.diag([1.0, 1.0, 0.0, 1.0]), node)
    with pytest.raises(VolumeError, match="CT 5 6 has an impossible"):
        volume_from_node(node)


@pytest.mark.parametrize("move", ["none", "both", "volume"])
def test_segments_come_back_as_labels_on_the_volumes_grid(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace, move: str
) -> None:
    import slicer

    from MultiOrganSegLib.mrml import segmentation_from_node

    volume = make_volume()
    pretend(result=tools.result_file(volume))
    node = logic.process(volume)
    if move == "both":
        add_transform(turned((0, 0, 90)), node, volume)
    if move == "volume":
        shift = np.eye(4)
        shift[:3, 3] = slicer.util.arrayFromVTKMatrix(_ijk_to_ras(volume))[:3, 0] * 3
        add_transform(shift, volume)
    read = segmentation_from_node(node, volume)
    expected = tools.labels()
    if move == "volume":
        expected = np.pad(expected, ((0, 0), (0, 0), (0, 3)))[:, :, 3:]
    np.testing.assert_array_equal(read.labels, expected)
    np.testing.assert_allclose(
        np.diag([-1, -1, 1, 1]) @ read.affine, slicer.util.arrayFromVTKMatrix(_ijk_to_ras(volume))
    )
    assert read.table.keys == ("spleen", "liver", "kidney_left")
    statistics = {row.key: row for row in read.statistics}
    assert statistics["liver"].voxels == int((expected == 2).sum())
    assert statistics["liver"].confidence == 0.83
    assert statistics["kidney_left"].flags == ("not_found",)
    assert np.isnan(statistics["kidney_left"].mean_intensity)
    assert {key: read.provenance[key] for key in tools.provenance} == tools.provenance


def test_segments_that_overlap_and_others_segments_are_taken_too(
    logic: Any, make_volume: Make, pretend: Make, tools: SimpleNamespace
) -> None:
    import slicer

    from MultiOrganSegLib.mrml import segmentation_from_node
    from MultiOrganSegLib.tags import catalogue_from_node

    volume = make_volume()
    pretend(result=tools.result_file(volume))
    node = logic.process(volume)
    mask = np.zeros(tools.labels().shape, np.uint8)
    mask[3:8, 15:25, 10:20] = 1
    node.GetSegmentation().AddEmptySegment("Segment 1", "Tumour", (1.0, 0.0, 0.0))
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "Segment 1", volume)
    read = segmentation_from_node(node, volume)
    expected = tools.labels()
    expected[mask > 0] = 4
    np.testing.assert_array_equal(read.labels, expected)
    assert read.table.keys[-1] == "segment_1"
    assert len(read.statistics) == 3
    catalogue = catalogue_from_node(node)
    assert catalogue.get("segment_1").name == "Tumour"
    assert catalogue.get("liver").type.value == "10200004"


def test_an_empty_segmentation_is_refused_and_empty_segments_are_not(make_volume: Make) -> None:
    import slicer

    from MultiOrganSegLib.mrml import segmentation_from_node

    volume = make_volume()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "none")
    with pytest.raises(OrganError, match="no segments"):
        segmentation_from_node(node, volume)
    node.GetSegmentation().AddEmptySegment("liver")
    read = segmentation_from_node(node, volume)
    assert read.labels.shape == (12, 40, 44)
    assert not read.labels.any()


def _ijk_to_ras(node: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix

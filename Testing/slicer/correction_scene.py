"""A small scene to correct: a liver that lacks its left half, and a spleen beside it."""

from __future__ import annotations

from typing import Any

import numpy as np

SHAPE = (14, 40, 44)
MATRIX = np.diag([-1.5, -1.5, 3.0, 1.0])
IDS = ("liver", "spleen")


def scene_labels() -> tuple[np.ndarray, np.ndarray]:
    """Intensities of liver and spleen in fat; labels lack the left half of the liver."""
    k, j, i = np.indices(SHAPE)
    liver = ((k - 7) / 5) ** 2 + ((j - 20) / 11) ** 2 + ((i - 14) / 10) ** 2 < 1
    spleen = ((k - 7) / 4) ** 2 + ((j - 20) / 8) ** 2 + ((i - 32) / 8) ** 2 < 1
    hu = np.select([liver, spleen], [120, 50], -80) + np.random.default_rng(1).normal(0, 8, SHAPE)
    return hu.astype(np.int16), np.where(liver & (i > 13), 1, np.where(spleen, 2, 0)).astype(np.uint8)


def add_scene(
    matrix: np.ndarray = MATRIX, ids: tuple[str, ...] = IDS, shared: bool = True
) -> tuple[Any, Any]:
    """Add the volume and a segmentation of it; with `shared`, all segments lie in one layer."""
    import slicer

    voxels, labels = scene_labels()
    volume = slicer.util.addVolumeFromArray(voxels, matrix, "CT")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for value, identity in enumerate(ids, start=1):
        node.GetSegmentation().AddEmptySegment(identity, identity.title())
        draw(node, volume, identity, labels == value)
    if shared:
        node.GetSegmentation().CollapseBinaryLabelmaps(False)
    return volume, node


def draw(node: Any, volume: Any, identity: str, mask: np.ndarray) -> None:
    """Replace a segment's voxels."""
    import slicer

    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, identity, volume)


def labels_of(node: Any, volume: Any) -> np.ndarray:
    """Labels 1, 2, … of the segments on the volume's grid."""
    from MultiOrganSegLib.correct.segments import read_labels

    return read_labels(node, volume)[1]

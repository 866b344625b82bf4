"""Pictures by the real displayable managers; they need an offscreen OpenGL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def _pixels(path: Path) -> np.ndarray:
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    reader = vtk.vtkPNGReader()
    reader.SetFileName(str(path))
    reader.Update()
    image = reader.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1).astype(int)[::-1]


def _count(pixels: np.ndarray, channel: int) -> int:
    others = np.delete(pixels[..., :3], channel, axis=-1).max(axis=-1)
    return int((pixels[..., channel] - others > 60).sum())


def test_slice_shows_segments_at_their_place(
    host: Any, make_scene: Callable[..., Any], tmp_path: Path
) -> None:
    import rendering

    volume, segmentation, _ = make_scene()
    before = host.scene.GetNumberOfNodes()
    path = rendering.slice_view(volume, segmentation, tmp_path / "axial.png", size=(300, 240))
    pixels = _pixels(path)
    assert pixels.shape[:2] == (240, 300)
    red, green, blue = pixels[120, 150, :3]
    assert green > red + 60
    assert green > blue + 60
    assert _count(pixels, 0) > 1000

    outside = rendering.slice_view(
        volume, segmentation, tmp_path / "top.png", offset=30.0 + 4.0 * 22, size=(300, 240)
    )
    assert _count(_pixels(outside), 1) == 0
    assert host.scene.GetNumberOfNodes() == before


def test_surfaces_are_drawn_and_can_be_hidden(
    host: Any, make_scene: Callable[..., Any], tmp_path: Path
) -> None:
    import rendering

    _, segmentation, _ = make_scene()
    before = host.scene.GetNumberOfNodes()
    both = _pixels(rendering.three_d_view(segmentation, tmp_path / "both.png", size=(200, 160)))
    core = _pixels(
        rendering.three_d_view(segmentation, tmp_path / "core.png", size=(200, 160), hidden=["shell"])
    )
    assert _count(both, 0) > 3000
    assert _count(both, 1) == 0
    assert _count(core, 0) == 0
    assert _count(core, 1) > 3000
    assert segmentation.GetDisplayNode().GetSegmentVisibility("shell")
    assert host.scene.GetNumberOfNodes() == before

"""Smooth organ surfaces rendered with VTK; only the rendering child process calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg.volumes.volume import Affine

BACKGROUND = (0.047, 0.059, 0.078)
SMOOTHING_ITERATIONS = 40
PASS_BAND = 0.008
TRANSLUCENT_SHARE = 0.2
TRANSLUCENT_OPACITY = 0.32
VIEW_ANGLE = 20.0


def render_surfaces(
    labels: NDArray[np.unsignedinteger],
    affine: Affine,
    colors: Mapping[int, Sequence[float]],
    size: tuple[int, int],
    picture: Path,
) -> None:
    """Render organs from the front, the patient's right on the left side, and write a PNG.

    Organs that make up more than a fifth of all labelled voxels are translucent, so that they hide nothing.
    Surfaces are made by discrete flying edges and smoothed by a windowed sinc in patient space, so that
    oblique, sheared and anisotropic grids look right.

    Args:
        labels: Array (k, j, i), with a border of background.
        affine: See `Grid.affine`.
        colors: Colour (r, g, b) in [0, 1] of each label value to show.
        size: Width and height in pixels.
        picture: PNG file to write.
    """
    import vtkmodules.vtkRenderingOpenGL2  # noqa: F401
    from vtkmodules.vtkIOImage import vtkPNGWriter
    from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow, vtkWindowToImageFilter

    renderer = vtkRenderer()
    renderer.SetBackground(*BACKGROUND)
    renderer.SetUseFXAA(True)
    renderer.SetUseDepthPeeling(1)
    renderer.SetMaximumNumberOfPeels(12)
    boxes = ndimage.find_objects(labels)
    counts = np.bincount(labels.ravel(), minlength=max(colors) + 1)
    large = TRANSLUCENT_SHARE * counts[1:].sum()
    for value, color in colors.items():
        actor = _actor(labels, value, boxes[value - 1], affine, color)
        if counts[value] > large and len(colors) > 1:
            actor.GetProperty().SetOpacity(TRANSLUCENT_OPACITY)
        renderer.AddActor(actor)
    _light(renderer)
    _look_from_the_front(renderer, size)

    window = vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetAlphaBitPlanes(1)
    window.SetSize(*size)
    window.AddRenderer(renderer)
    window.Render()
    grab = vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    writer = vtkPNGWriter()
    writer.SetFileName(str(picture))
    writer.SetInputConnection(grab.GetOutputPort())
    writer.Write()


def _actor(
    labels: NDArray[np.unsignedinteger],
    value: int,
    box: tuple[slice, slice, slice],
    affine: Affine,
    color: Sequence[float],
) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkCommonMath import vtkMatrix4x4
    from vtkmodules.vtkCommonTransforms import vtkTransform
    from vtkmodules.vtkFiltersCore import vtkPolyDataNormals, vtkWindowedSincPolyDataFilter
    from vtkmodules.vtkFiltersGeneral import vtkDiscreteFlyingEdges3D, vtkTransformPolyDataFilter
    from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

    wide = tuple(slice(part.start - 1, part.stop + 1) for part in box)
    mask = np.ascontiguousarray(labels[wide] == value, dtype=np.uint8)
    image = vtkImageData()
    image.SetDimensions(*mask.shape[::-1])
    image.SetOrigin(*(float(part.start) for part in wide[::-1]))
    image.GetPointData().SetScalars(numpy_to_vtk(mask.ravel(), deep=True))

    surface = vtkDiscreteFlyingEdges3D()
    surface.SetInputData(image)
    surface.SetValue(0, 1)
    surface.ComputeNormalsOff()
    surface.ComputeGradientsOff()

    matrix = vtkMatrix4x4()
    matrix.DeepCopy(affine.ravel().tolist())
    transform = vtkTransform()
    transform.SetMatrix(matrix)
    placed = vtkTransformPolyDataFilter()
    placed.SetTransform(transform)
    placed.SetInputConnection(surface.GetOutputPort())

    smooth = vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(placed.GetOutputPort())
    smooth.SetNumberOfIterations(SMOOTHING_ITERATIONS)
    smooth.SetPassBand(PASS_BAND)
    smooth.BoundarySmoothingOff()
    smooth.FeatureEdgeSmoothingOff()
    smooth.NonManifoldSmoothingOn()
    smooth.NormalizeCoordinatesOn()

    normals = vtkPolyDataNormals()
    normals.SetInputConnection(smooth.GetOutputPort())
    normals.SplittingOff()
    normals.AutoOrientNormalsOn()

    mapper = vtkPolyDataMapper()
    mapper.SetInputConnection(normals.GetOutputPort())
    mapper.ScalarVisibilityOff()
    actor = vtkActor()
    actor.SetMapper(mapper)
    look = actor.GetProperty()
    look.SetColor(*color)
    look.SetAmbient(0.2)
    look.SetDiffuse(0.85)
    look.SetSpecular(0.25)
    look.SetSpecularPower(25)
    return actor


def _light(renderer: Any) -> None:
    from vtkmodules.vtkRenderingCore import vtkLightKit

    kit = vtkLightKit()
    kit.SetKeyLightIntensity(0.95)
    kit.SetKeyLightWarmth(0.55)
    kit.SetKeyLightAngle(35, -25)
    kit.SetKeyToFillRatio(2.4)
    kit.SetKeyToBackRatio(3.0)
    kit.AddLightsToRenderer(renderer)


def _look_from_the_front(renderer: Any, size: tuple[int, int]) -> None:
    left, right, front, back, bottom, top = renderer.ComputeVisiblePropBounds()
    camera = renderer.GetActiveCamera()
    camera.SetViewAngle(VIEW_ANGLE)
    camera.SetFocalPoint((left + right) / 2, (front + back) / 2, (bottom + top) / 2)
    half = max((top - bottom) / 2, (right - left) / 2 * size[1] / size[0])
    distance = half / np.tan(np.radians(VIEW_ANGLE / 2)) + (back - front) / 2
    camera.SetPosition((left + right) / 2, (front + back) / 2 - distance * 1.06, (bottom + top) / 2)
    camera.SetViewUp(0, 0, 1)
    camera.Elevation(8)
    renderer.ResetCameraClippingRange()

"""Pictures of the scene by Slicer's real displayable managers, drawn offscreen and written as PNG.

Needs an OpenGL without a display: EGL or OSMesa (`VTK_DEFAULT_OPENGL_WINDOW=vtkOSOpenGLRenderWindow`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer
import slicer_host
import vtk

SOFT_TISSUE = (-160.0, 240.0)
_SLICE_MANAGERS = ("vtkMRMLSegmentationsDisplayableManager2D",)
_THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
)


def slice_view(
    volume: Any,
    segmentation: Any,
    path: Path,
    orientation: str = "Axial",
    offset: float | None = None,
    size: tuple[int, int] = (640, 520),
    window: tuple[float, float] = SOFT_TISSUE,
) -> Path:
    """Draw a slice of a volume with a segmentation over it.

    Args:
        volume: The vtkMRMLScalarVolumeNode in the background.
        segmentation: The vtkMRMLSegmentationNode drawn over it, or None.
        path: PNG file to write.
        orientation: "Axial", "Sagittal" or "Coronal".
        offset: Position along the slice's normal, in mm of RAS space; None for the middle.
        size: Width and height in pixels.
        window: Intensities shown as black and as white.
    """
    scene = slicer.mrmlScene
    shown = _only_visible(segmentation)
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    logic.SetMRMLScene(scene)
    node = logic.AddSliceNode(scene.GenerateUniqueName("Picture"))
    composite = logic.GetSliceCompositeNode()
    try:
        node.SetOrientation(orientation)
        node.SetMappedInLayout(1)
        composite.SetBackgroundVolumeID(volume.GetID())
        volume.CreateDefaultDisplayNodes()
        volume.GetDisplayNode().AutoWindowLevelOff()
        volume.GetDisplayNode().SetWindowLevelMinMax(*window)
        logic.ResizeSliceNode(*size)
        logic.FitSliceToAll(*size)
        if offset is not None:
            logic.SetSliceOffset(offset)
        render_window, renderer, _interactor = _offscreen(size)
        renderer.GetActiveCamera().ParallelProjectionOn()
        renderer.AddViewProp(_image_actor(logic))
        group = _managers(
            slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), renderer, node, _SLICE_MANAGERS
        )
        _write(render_window, path)
        group.SetMRMLDisplayableNode(None)
        render_window.Finalize()
    finally:
        scene.RemoveNode(composite)
        scene.RemoveNode(node)
        _restore(shown)
    return path


def three_d_view(
    segmentation: Any,
    path: Path,
    size: tuple[int, int] = (640, 520),
    hidden: Sequence[str] = (),
    direction: tuple[float, float, float] = (0.0, 1.0, 0.15),
) -> Path:
    """Draw the surfaces of a segmentation.

    Args:
        segmentation: The vtkMRMLSegmentationNode; gets closed surfaces if it has none.
        path: PNG file to write.
        size: Width and height in pixels.
        hidden: IDs of segments to leave out.
        direction: From the middle to the camera, in RAS; from the front by default.
    """
    scene = slicer.mrmlScene
    shown = _only_visible(segmentation)
    segmentation.CreateClosedSurfaceRepresentation()
    display = segmentation.GetDisplayNode()
    visibility = {segment: display.GetSegmentVisibility(segment) for segment in hidden}
    node = scene.AddNewNodeByClass("vtkMRMLViewNode", "Picture")
    try:
        for segment in hidden:
            display.SetSegmentVisibility(segment, False)
        node.SetLayoutName(node.GetName())
        node.SetMappedInLayout(1)
        node.SetBoxVisible(False)
        node.SetAxisLabelsVisible(False)
        render_window, renderer, _interactor = _offscreen(size)
        group = _managers(
            slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), renderer, node, _THREE_D_MANAGERS
        )
        _look_from(renderer, direction)
        _write(render_window, path)
        group.SetMRMLDisplayableNode(None)
        render_window.Finalize()
    finally:
        for camera in slicer.util.getNodesByClass("vtkMRMLCameraNode"):
            if camera.GetLayoutName() == node.GetLayoutName():
                scene.RemoveNode(camera)
        scene.RemoveNode(node)
        for segment, visible in visibility.items():
            display.SetSegmentVisibility(segment, visible)
        _restore(shown)
    return path


def _offscreen(size: tuple[int, int]) -> tuple[Any, Any, Any]:
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetSize(*size)
    renderer = vtk.vtkRenderer()
    window.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    interactor.Initialize()
    return window, renderer, interactor


def _managers(factory: Any, renderer: Any, node: Any, names: Sequence[str]) -> Any:
    factory.SetMRMLApplicationLogic(slicer_host.start().app.applicationLogic())
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    group.Initialize(factory, renderer)
    group.SetMRMLDisplayableNode(node)
    return group


def _image_actor(logic: Any) -> Any:
    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    mapper.SetInputConnection(logic.GetImageDataConnection())
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    actor.GetProperty().SetDisplayLocationToBackground()
    return actor


def _look_from(renderer: Any, direction: tuple[float, float, float]) -> None:
    bounds = renderer.ComputeVisiblePropBounds()
    middle = [(bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)]
    camera = renderer.GetActiveCamera()
    camera.SetFocalPoint(middle)
    camera.SetPosition([m + 1000 * d for m, d in zip(middle, direction, strict=True)])
    camera.SetViewUp(0, 0, 1)
    renderer.ResetCamera()
    camera.Zoom(1.4)


def _write(window: Any, path: Path) -> None:
    window.Render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.ReadFrontBufferOff()
    grabber.Update()
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputConnection(grabber.GetOutputPort())
    writer.Write()
    if not path.is_file():
        message = f"the picture could not be written: {path}"
        raise OSError(message)


def _only_visible(segmentation: Any) -> list[tuple[Any, int]]:
    """Hide all other segmentations; gives back what to restore."""
    changed = []
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        changed.append((display, display.GetVisibility()))
        display.SetVisibility(node is segmentation)
    return changed


def _restore(changed: list[tuple[Any, int]]) -> None:
    for display, visibility in changed:
        display.SetVisibility(visibility)

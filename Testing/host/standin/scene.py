"""The MRML scene and the module logics, as the application sets them up at its start."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standin.removal_guard import RemovalGuard

SLICE_VIEWS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}

_ALIASES = {
    "vtkITK": "vtkITK",
    "vtkSegmentationCore": "vtkSegmentationCore",
    "vtkSegmentationCorePython": "vtkSegmentationCore",
    "vtkTeem": "vtkTeem",
    "vtkAddon": "vtkAddonPython",
    "MRMLCorePython": "MRMLCore",
    "MRMLLogicPython": "MRMLLogic",
}

_LOGIC_CLASSES = {
    "Volumes": "vtkSlicerVolumesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Models": "vtkSlicerModelsLogic",
}


@dataclass(frozen=True)
class SceneParts:
    """What belongs to one scene.

    Attributes:
        scene: The vtkMRMLScene.
        application_logic: The vtkSlicerApplicationLogic that all logics share.
        logics: Module name to module logic, all of them watching the scene.
        slice_logics: Slice view name to its vtkMRMLSliceLogic.
        keep: Objects that the scene needs but does not own.
    """

    scene: Any
    application_logic: Any
    logics: dict[str, Any]
    slice_logics: dict[str, Any]
    keep: tuple[Any, ...]


def alias_application_modules() -> None:
    """Make the names under which the application knows its VTK modules importable."""
    for name, wheel_name in _ALIASES.items():
        if name not in sys.modules:
            sys.modules[name] = importlib.import_module(f"slicer_core.{wheel_name}")


def build_scene(temporary: Path, terminologies: Path | None) -> SceneParts:
    """Make a scene with its logics and the nodes that are there when the application has started.

    Args:
        temporary: Folder for caches and unpacked scenes.
        terminologies: Folder with terminology JSON files; without one there is no Terminologies module,
            because it cannot start without them.
    """
    import slicer

    scene = slicer.vtkMRMLScene()
    scene.SetVersion("Slicer 5.12.4 0")
    guard = RemovalGuard(scene)
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetMRMLScene(scene)
    application_logic.SetTemporaryPath(str(temporary))
    logics = {"Colors": application_logic.GetColorLogic()}
    logics["Colors"].SetMRMLScene(scene)
    logics["Colors"].AddDefaultColorNodes()
    for name, class_name in _LOGIC_CLASSES.items():
        if name == "Terminologies" and terminologies is None:
            continue
        logic = getattr(slicer, class_name)()
        if name == "Terminologies":
            logic.SetModuleShareDirectory(str(terminologies))
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        logics[name] = logic
    for name, logic in logics.items():
        application_logic.SetModuleLogic(name, logic)
    _keep_subject_hierarchy(scene)
    slice_logics = _add_views(scene, application_logic)
    keep = _add_data_input_output(scene, application_logic, temporary)
    return SceneParts(scene, application_logic, logics, slice_logics, (*keep, guard))


def _keep_subject_hierarchy(scene: Any) -> None:
    """Make the subject hierarchy's node, and make it anew whenever the scene was closed."""
    import slicer

    def make(caller: Any = None, event: str = "") -> None:
        slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)

    make()
    scene.AddObserver(slicer.vtkMRMLScene.EndCloseEvent, make)


def _add_views(scene: Any, application_logic: Any) -> dict[str, Any]:
    import slicer
    import vtk

    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    logics = {}
    collection = vtk.vtkCollection()
    for name, orientation in SLICE_VIEWS.items():
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        node = logic.AddSliceNode(name)
        node.SetOrientation(orientation)
        node.SetMappedInLayout(1)
        logic.ResizeSliceNode(256, 256)
        logics[name] = logic
        collection.AddItem(logic)
    application_logic.SetSliceLogics(collection)
    view = scene.CreateNodeByClass("vtkMRMLViewNode")
    view.UnRegister(None)
    view.SetName("View1")
    view.SetLayoutName("1")
    view.SetSingletonTag("1")
    view.SetMappedInLayout(1)
    scene.AddNode(view)
    return logics


def _add_data_input_output(scene: Any, application_logic: Any, temporary: Path) -> tuple[Any, ...]:
    import slicer

    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLScene(scene)
    remote.SetMRMLApplicationLogic(application_logic)
    remote.GetCacheManager().SetRemoteCacheDirectory(str(temporary))
    data = slicer.vtkDataIOManagerLogic()
    data.SetMRMLScene(scene)
    data.SetMRMLApplicationLogic(application_logic)
    data.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    return remote, data

"""Reading and writing of nodes and scenes: stands for `qSlicerCoreIOManager`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from standin.scene import SceneParts

_EXTENSIONS = {
    "SegmentationFile": (".seg.nrrd", ".seg.nhdr", ".seg.vtm"),
    "SceneFile": (".mrb", ".mrml"),
    "VolumeFile": (".nrrd", ".nhdr", ".nii.gz", ".nii", ".mha", ".mhd", ".dcm"),
}
_WRITERS = (("vtkMRMLSegmentationNode", "SegmentationFile"), ("vtkMRMLVolumeNode", "VolumeFile"))


class CoreIO:
    """Loads and saves through the real storage nodes and logics."""

    def __init__(self, parts: SceneParts) -> None:
        self._parts = parts

    def fileType(self, filename: str) -> str:
        """Name of the reader for a file, from its extension; "NoFile" when there is none."""
        lower = str(filename).lower()
        return next((kind for kind, ends in _EXTENSIONS.items() if lower.endswith(ends)), "NoFile")

    def fileWriterFileType(self, node: Any) -> str:
        """Name of the writer for a node."""
        return next((kind for class_name, kind in _WRITERS if node.IsA(class_name)), "NoFile")

    def loadNodes(self, kind: str, properties: Mapping[str, Any], nodes: Any, messages: Any = None) -> bool:
        """Load a file into the scene, add its nodes to the collection `nodes`; whether it worked."""
        path = Path(str(properties["fileName"]))
        if not path.exists():
            _tell(messages, f"The file does not exist: {path}")
            return False
        if kind == "SceneFile":
            return self._load_scene(path, bool(properties.get("clear", False)))
        reader = getattr(self, f"_read_{kind}", None)
        if reader is None:
            _tell(messages, f"No reader found for {path} as {kind}")
            return False
        node = reader(path, properties)
        if node is None:
            _tell(messages, f"Reading failed: {path}")
            return False
        nodes.AddItem(node)
        return True

    def saveNodes(self, kind: str, properties: Mapping[str, Any], messages: Any = None) -> bool:
        """Write one node (`nodeID`) or, as "SceneFile", the whole scene; whether it worked."""
        path = Path(str(properties["fileName"]))
        if kind == "SceneFile":
            return self._save_scene(path)
        if kind == "NoFile":
            _tell(messages, f"No writer found for {path}")
            return False
        node = self._parts.scene.GetNodeByID(properties["nodeID"])
        if not node.GetStorageNode():
            node.AddDefaultStorageNode(str(path))
        storage = node.GetStorageNode()
        storage.SetFileName(str(path))
        if not storage.SupportedFileType(str(path)):
            _tell(messages, f"{node.GetClassName()} cannot be written as {path.name}")
            return False
        if "useCompression" in properties:
            storage.SetUseCompression(int(properties["useCompression"]))
        return bool(storage.WriteData(node))

    def _load_scene(self, path: Path, clear: bool) -> bool:
        scene = self._parts.scene
        if path.suffix == ".mrb":
            return bool(scene.ReadFromMRB(str(path), clear))
        scene.SetURL(str(path))
        return bool(scene.Connect() if clear else scene.Import())

    def _save_scene(self, path: Path) -> bool:
        scene = self._parts.scene
        if path.suffix == ".mrb":
            return bool(scene.WriteToMRB(str(path)))
        scene.SetURL(str(path))
        scene.SetRootDirectory(str(path.parent))
        return bool(scene.Commit())

    def _read_VolumeFile(self, path: Path, properties: Mapping[str, Any]) -> Any:
        flags = 1 if properties.get("labelmap") else 0
        return self._parts.logics["Volumes"].AddArchetypeVolume(str(path), _name(path, properties), flags)

    def _read_SegmentationFile(self, path: Path, properties: Mapping[str, Any]) -> Any:
        logic, scene = self._parts.logics["Segmentations"], self._parts.scene
        name = _name(path, properties)
        if ".seg." in path.name.lower():
            return logic.LoadSegmentationFromFile(
                str(path), bool(properties.get("autoOpacities", True)), name
            )
        labelmap = self._read_VolumeFile(path, {**properties, "labelmap": True})
        if labelmap is None:
            return None
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        imported = logic.ImportLabelmapToSegmentationNode(labelmap, node)
        scene.RemoveNode(labelmap)
        return node if imported else None


def _name(path: Path, properties: Mapping[str, Any]) -> str:
    return str(properties.get("name") or path.name.split(".")[0])


def _tell(messages: Any, text: str) -> None:
    import vtk

    if messages is not None:
        messages.AddMessage(vtk.vtkCommand.ErrorEvent, text)

"""Loaded modules: C++ ones by their logic, scripted ones imported as the application imports them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from standin.signals import Signals


class Module:
    """Stands for a module that is known by its logic alone."""

    def __init__(self, name: str, logic: Any, path: str = "") -> None:
        self.name = name
        self.path = path
        self._logic = logic

    def logic(self) -> Any:
        """The module's C++ logic."""
        return self._logic

    def widgetRepresentation(self) -> Any:
        """None: this module has no widget in the host."""
        return None


class ScriptedModule(Module):
    """Stands for `qSlicerScriptedLoadableModule`, which is also the `parent` of the Python module.

    `logic()` gives, as in the application, a `vtkSlicerScriptedLoadableModuleLogic` and not the Python
    logic: that one is reached by `slicer.util.getModuleLogic(name)` or by its class.
    """

    def __init__(self, name: str, path: Path) -> None:
        import slicer

        super().__init__(name, slicer.vtkSlicerScriptedLoadableModuleLogic(), str(path))
        self.title = name
        self.categories: list[str] = []
        self.dependencies: list[str] = []
        self.contributors: list[str] = []
        self.helpText = ""
        self.acknowledgementText = ""
        self.icon: Any = None
        self.hidden = False
        self.widgetRepresentationCreationEnabled = True
        self.instance: Any = None
        self.python: Any = None
        self.added_to_path = False
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._representation: Any = None

    def widgetRepresentation(self) -> Any:
        """The module's widget, made and set up when first asked for; None without widgets."""
        import slicer

        if self._representation is None and slicer.app.window:
            self._representation = self.createNewWidgetRepresentation()
        return self._representation

    def createNewWidgetRepresentation(self) -> Any:
        """A further widget of this module."""
        import slicer

        return slicer.qSlicerScriptedLoadableModuleWidget(self)

    def forget_widget(self) -> None:
        """Clean the widget up and drop it, as when the application unloads the module."""
        import slicer

        if self._representation is not None:
            slicer.app.moduleManager().emit("moduleAboutToBeUnloaded(QString)", self.name)
            self._representation.close_and_delete()
            self._representation = None
            delattr(slicer.modules, f"{self.name}Widget")


class SegmentEditor(Module):
    """Stands for the module Segment Editor, whose widget is made when it is opened first."""

    def __init__(self) -> None:
        super().__init__("SegmentEditor", None)
        self._representation: SegmentEditorWidget | None = None

    def widgetRepresentation(self) -> Any:
        """The module's widget."""
        if self._representation is None:
            self._representation = SegmentEditorWidget()
        return self._representation

    def forget_widget(self) -> None:
        """Make the widget anew when the module is opened next."""
        if self._representation is not None and self._representation.editor is not None:
            self._representation.editor.close_effects()
            self._representation.editor.close()
            self._representation.editor.deleteLater()
        self._representation = None


class SegmentEditorWidget:
    """Stands for `qSlicerSegmentEditorModuleWidget`: when it is made, it chooses the first segment.

    Attributes:
        editor: The qMRMLSegmentEditorWidget; None without widgets.
    """

    def __init__(self) -> None:
        import slicer

        scene = slicer.mrmlScene
        editor = scene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
        if editor is None:
            editor = scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            editor.UnRegister(None)
            editor.SetSingletonTag("SegmentEditor")
            editor = scene.AddNode(editor)
        node = editor.GetSegmentationNode()
        if node is not None and node.GetSegmentation().GetNumberOfSegments():
            editor.SetSelectedSegmentID(node.GetSegmentation().GetNthSegmentID(0))
        self.editor: Any = None
        if slicer.app.window:
            self.editor = slicer.qMRMLSegmentEditorWidget()
            self.editor.setMRMLScene(scene)
            self.editor.setMRMLSegmentEditorNode(editor)
            self.editor.setSegmentationNode(node)
            self.editor.setSourceVolumeNode(editor.GetSourceVolumeNode())

    def self(self) -> Any:
        """The Python side, which has the editor."""
        return self

    def enter(self) -> None:
        """The user opens the module."""

    def exit(self) -> None:
        """The user opens another module."""
        if self.editor is not None:
            self.editor.setActiveEffect(None)


class FactoryManager:
    """Knows the names of the loaded modules."""

    def __init__(self, modules: dict[str, Module]) -> None:
        self._modules = modules

    def loadedModuleNames(self) -> list[str]:
        """Names of all loaded modules."""
        return list(self._modules)


class ModuleManager:
    """Stands for `qSlicerModuleManager`."""

    def __init__(self) -> None:
        self._modules: dict[str, Module] = {}
        self._signals = Signals(
            "qSlicerModuleManager", "moduleAboutToBeUnloaded(QString)", "moduleLoaded(QString)"
        )

    def add(self, module: Module) -> None:
        """Make a module known, here and as `slicer.modules.<name in lower case>`."""
        import slicer

        self._modules[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)
        self._signals.emit("moduleLoaded(QString)", module.name)

    def remove(self, name: str) -> None:
        """Forget a module."""
        import slicer

        del self._modules[name]
        delattr(slicer.modules, name.lower())

    def module(self, name: str) -> Module | None:
        """The module of that name, or None."""
        return self._modules.get(name)

    def factoryManager(self) -> FactoryManager:
        """Knows the names of the loaded modules."""
        return FactoryManager(self._modules)

    def scripted(self) -> list[ScriptedModule]:
        """The scripted modules among the loaded ones."""
        return [module for module in self._modules.values() if isinstance(module, ScriptedModule)]

    def connect(self, signature: str, slot: Callable[..., Any]) -> bool:
        """Call `slot` when the manager emits the signal."""
        return self._signals.connect(signature, slot)

    def disconnect(self, signature: str, slot: Callable[..., Any]) -> bool:
        """Stop calling `slot`."""
        return self._signals.disconnect(signature, slot)

    def emit(self, signature: str, *arguments: Any) -> None:
        """Emit a signal, for the host and for tests."""
        self._signals.emit(signature, *arguments)


def import_scripted_module(name: str, folder: Path) -> ScriptedModule:
    """Import `<folder>/<name>.py` under its own name and make its module object.

    Args:
        name: Name of the file, of its class and of the Python module.
        folder: Goes onto `sys.path`, as every module folder of the application.

    Raises:
        FileNotFoundError: There is no such file.
        AttributeError: The file has no class of that name.
    """
    path = folder.resolve() / f"{name}.py"
    if not path.is_file():
        raise FileNotFoundError(path)
    is_new_folder = str(path.parent) not in sys.path
    if is_new_folder:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    python = importlib.util.module_from_spec(spec)
    sys.modules[name] = python
    try:
        spec.loader.exec_module(python)
        module = ScriptedModule(name, path)
        module.python = python
        module.added_to_path = is_new_folder
        module.instance = getattr(python, name)(module)
    except BaseException:
        del sys.modules[name]
        raise
    if hasattr(module.instance, "setup"):
        module.instance.setup()
    return module

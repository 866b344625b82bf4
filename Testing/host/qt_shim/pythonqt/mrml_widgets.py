"""Stand-ins for Slicer's widgets that know a scene."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Signal

from pythonqt.classes import exported_names, stand_in

_names = exported_names()
QWidget: Any = _names["QWidget"]


@stand_in
class qMRMLWidget(QWidget):
    """A widget that knows the scene and tells those inside it."""

    mrmlSceneChanged = Signal(object)
    mrml_slots = ("setMRMLScene",)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        """Use a scene."""
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._scene


@stand_in
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The application's side of a scripted module's widget: builds, enters and leaves the Python side."""

    def __init__(self, module: Any) -> None:
        import slicer

        super().__init__()
        self._module = module
        self._entered = False
        self.setLayout(_names["QVBoxLayout"]())
        self.setMRMLScene(slicer.mrmlScene)
        self.reload()

    isEntered = property(lambda self: self._entered)
    moduleName = property(lambda self: self._module.name)

    def reload(self) -> None:
        """Make the Python widget anew and set it up."""
        import sys

        import slicer

        name = f"{self._module.name}Widget"
        self._python = getattr(sys.modules[self._module.name], name)(self)
        setattr(slicer.modules, name, self._python)
        self._python.setup()

    def self(self) -> Any:
        """The Python widget."""
        return self._python

    def enter(self) -> None:
        """The user opens the module."""
        self._entered = True
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self) -> None:
        """The user opens another module."""
        self._entered = False
        if hasattr(self._python, "exit"):
            self._python.exit()

    def close_and_delete(self) -> None:
        """Remove the widget."""
        if self._entered:
            self.exit()
        self.close()
        self.deleteLater()

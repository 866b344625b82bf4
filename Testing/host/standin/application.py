"""Stands for `slicer.app`, the qSlicerApplication."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from standin.core_io import CoreIO
from standin.modules import ModuleManager
from standin.scene import SceneParts
from standin.settings import Settings
from standin.signals import Signals


class StartupEnvironment:
    """Stands for the QProcessEnvironment in which the application was started."""

    def __init__(self) -> None:
        self._values = dict(os.environ)

    def keys(self) -> list[str]:
        """Names of the variables."""
        return list(self._values)

    def value(self, name: str, default: str = "") -> str:
        """Value of a variable."""
        return self._values.get(name, default)


class Application:
    """Properties and methods under the names of the real application; others raise AttributeError.

    Attributes:
        testing: What `testingEnabled` answers: true under `--testing`, when no dialog may open.
        window: Where the Qt side of the application is, once widgets are there.
    """

    applicationName = "Slicer"
    majorVersion = 5
    minorVersion = 12
    os = "linux"

    def __init__(self, parts: SceneParts, temporary: Path) -> None:
        self.temporaryPath = str(temporary)
        self.slicerHome = str(temporary)
        self.testing = False
        self.window: Any = None
        self._parts = parts
        self._io = CoreIO(parts)
        self._modules = ModuleManager()
        self._settings = Settings()
        self._signals = Signals(
            "qSlicerApplication", "startupCompleted()", "aboutToQuit()", "mrmlSceneChanged(vtkMRMLScene*)"
        )

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._parts.scene

    def applicationLogic(self) -> Any:
        """The vtkSlicerApplicationLogic."""
        return self._parts.application_logic

    def coreIOManager(self) -> CoreIO:
        """Reads and writes nodes."""
        return self._io

    def moduleManager(self) -> ModuleManager:
        """Knows the loaded modules."""
        return self._modules

    def testingEnabled(self) -> bool:
        """Whether the application runs under `--testing`."""
        return self.testing

    def startupEnvironment(self) -> StartupEnvironment:
        """The environment for child processes."""
        return StartupEnvironment()

    def settings(self) -> Any:
        """The settings of this application."""
        return self.window.settings() if self.window else self._settings

    userSettings = settings

    def translate(self, context: str, text: str) -> str:
        """The text itself: no language file is loaded."""
        return text

    def connect(self, signature: str, slot: Callable[..., Any]) -> bool:
        """Call `slot` when the application emits the signal."""
        return self._signals.connect(signature, slot)

    def disconnect(self, signature: str, slot: Callable[..., Any]) -> bool:
        """Stop calling `slot`."""
        return self._signals.disconnect(signature, slot)

    def emit(self, signature: str, *arguments: Any) -> None:
        """Emit a signal, for the host and for tests."""
        self._signals.emit(signature, *arguments)

    def processEvents(self) -> None:
        """Let Qt deliver what waits."""
        if self.window:
            self.window.process_events()

    def layoutManager(self) -> Any:
        """The layout manager, or None as in the application without a main window."""
        return self.window.layout_manager if self.window else None

    def topLevelWidgets(self) -> list[Any]:
        """All windows."""
        return list(self.window.top_level_widgets()) if self.window else []

    def setOverrideCursor(self, cursor: Any) -> None:
        """Show another mouse pointer; nothing to see here."""

    def restoreOverrideCursor(self) -> None:
        """Take the last mouse pointer back."""

    def clear_state(self) -> None:
        """Forget settings and connections, between two tests."""
        if self.window:
            self.window.clear_state()
        self._settings.clear()
        self._signals.clear()
        self.testing = False

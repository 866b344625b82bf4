"""Stand-in for the Slicer application on the real MRML, VTK and `slicer.util` of the `slicer-core` wheel.

`start()` makes `import slicer` behave as inside the application, as far as a scripted module needs it.
What the stand-in does not know raises, so that a module cannot pass here with a name that Slicer lacks.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
_host: Host | None = None


class Host:
    """The running stand-in application. There is one a process; get it from `start`.

    Attributes:
        parts: The scene and the logics.
        answers: What dialogs asked and what tests answer.
        app: The same object as `slicer.app`.
        errors: Exceptions that left a Python slot or observer; Qt and VTK only print them.
        vtk_errors: Error messages of VTK and MRML, such as that of an unknown node class.
    """

    def __init__(self, terminologies: Path | None) -> None:
        import slicer
        from standin.answers import Answers
        from standin.application import Application
        from standin.dicom_database import DicomDatabase
        from standin.modules import Module, ScriptedModule, SegmentEditor
        from standin.scene import alias_application_modules, build_scene

        self._temporary = Path(tempfile.mkdtemp(prefix="slicer-host-"))
        atexit.register(shutil.rmtree, self._temporary, ignore_errors=True)
        alias_application_modules()
        slicer.__path__.append(str(_HERE / "slicer_parts"))
        sys.path.append(str(_HERE / "application_modules"))
        self.parts = build_scene(self._temporary, terminologies)
        self.app = Application(self.parts, self._temporary)
        self.answers = Answers()
        self.errors: list[BaseException] = []
        self.vtk_errors: list[str] = []
        self._watch_errors()
        slicer.app = self.app
        slicer.mrmlScene = self.parts.scene
        slicer.modules = types.ModuleType("slicer.modules")
        slicer.dicomDatabase = DicomDatabase()
        slicer.qSlicerScriptedLoadableModule = ScriptedModule
        for name, logic in self.parts.logics.items():
            self.app.moduleManager().add(Module(name, logic))
        self._segment_editor = SegmentEditor()
        self.app.moduleManager().add(self._segment_editor)

    @property
    def scene(self) -> Any:
        """The scene, which stays the same object."""
        return self.parts.scene

    def add_widgets(self) -> None:
        """Start Qt, make `qt` and `ctk` importable and give `slicer` its widget classes."""
        if self.app.window is None:
            sys.path.append(str(_HERE / "qt_shim"))
            from pythonqt.window import Window

            self.app.window = Window(self.parts, self.answers)

    def _watch_errors(self) -> None:
        import vtk

        next_hook = sys.excepthook

        def keep(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
            self.errors.append(error)
            next_hook(kind, error, traceback)

        @vtk.calldata_type(vtk.VTK_STRING)
        def keep_message(caller: Any, event: str, text: str) -> None:
            self.vtk_errors.append(text.strip())

        sys.excepthook = keep
        vtk.vtkOutputWindow.GetInstance().AddObserver(vtk.vtkCommand.ErrorEvent, keep_message)

    def load_module(self, name: str, folder: Path) -> Any:
        """Load a scripted module as the application does at its start.

        Args:
            name: Name of the module's file and class.
            folder: Where `<name>.py` lies.

        Returns:
            The module object, which is also `slicer.modules.<name in lower case>`. Its `python` is the
            imported file, its `instance` the Python module object.
        """
        from standin.modules import import_scripted_module

        known = self.app.moduleManager().module(name)
        if known is not None and Path(known.path).parent == folder.resolve():
            return known
        module = import_scripted_module(name, folder)
        self.app.moduleManager().add(module)
        self.app.emit("startupCompleted()")
        return module

    def unload_module(self, name: str) -> None:
        """Forget a scripted module, so that it can be loaded from another folder."""
        module: Any = self.app.moduleManager().module(name)
        module.forget_widget()
        self.app.moduleManager().remove(name)
        sys.modules.pop(name, None)
        if module.added_to_path:
            sys.path.remove(str(Path(module.path).parent))

    def process_events(self, until: Callable[[], bool] | None = None, timeout: float = 30.0) -> None:
        """Let Qt and timers work, once or until a condition holds.

        Args:
            until: What to wait for.
            timeout: Seconds to wait at most.

        Raises:
            TimeoutError: The condition did not come true in time.
        """
        end = time.monotonic() + timeout
        self.app.processEvents()
        while until is not None and not until():
            if time.monotonic() > end:
                message = f"nothing happened within {timeout:g} s"
                raise TimeoutError(message)
            time.sleep(0.005)
            self.app.processEvents()

    def reset(self) -> None:
        """Return back the state after the start: empty scene, no widgets, settings, answers or records."""
        import slicer
        import slicer.packaging

        for module in self.app.moduleManager().scripted():
            module.forget_widget()
        self._segment_editor.forget_widget()
        self.process_events()
        self.scene.Clear(0)
        for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):
            self.scene.RemoveNode(node)
        slicer.dicomDatabase.clear()
        slicer.packaging.clear_records()
        self.answers.clear()
        self.app.clear_state()

    def forget_errors(self) -> None:
        """Forget the errors seen so far."""
        self.errors.clear()
        self.vtk_errors.clear()


def start(widgets: bool = False, terminologies: Path | None = None) -> Host:
    """The host of this process, started at the first call.

    Args:
        widgets: Also make `qt`, `ctk` and the widget classes available; a running host is extended.
        terminologies: Folder with terminology JSON files, for the Terminologies logic; counts at the
            first call only.
    """
    global _host
    if _host is None:
        if str(_HERE) not in sys.path:
            sys.path.insert(0, str(_HERE))
        _host = Host(terminologies)
    if widgets:
        _host.add_widgets()
    return _host

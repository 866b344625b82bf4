"""The Qt side of the stand-in application: its event loop, main window and settings."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


class Window:
    """Qt application, main window with module selector, layout manager and settings.

    Attributes:
        layout_manager: What `slicer.app.layoutManager()` gives.
        main: The main window.
    """

    def __init__(self, parts: Any, answers: Any) -> None:
        from pythonqt.classes import exported_names

        names = exported_names()
        application = names["QApplication"]
        self._application = application.instance() or application(["Slicer"])
        self._application.setStyle("Fusion")
        application.setOrganizationName("slicer-host")
        application.setApplicationName("Slicer")
        self._use_settings_folder(names, parts)
        self._publish_widgets()
        import qt

        from pythonqt.dialogs import use_answers
        from pythonqt.layout import LayoutManager

        use_answers(answers)
        self._qt = qt
        self.layout_manager = LayoutManager(parts)
        self.main = _make_main_window()

    def settings(self) -> Any:
        """A QSettings object over the host's own file."""
        return self._qt.QSettings()

    def process_events(self) -> None:
        """Deliver waiting events, deletions included."""
        self._application.processEvents()
        self._application.sendPostedEvents(None, self._qt.QEvent.DeferredDelete)

    def top_level_widgets(self) -> list[Any]:
        """All windows."""
        return self._application.topLevelWidgets()

    def clear_state(self) -> None:
        """No module open, no settings, every window but the main one gone."""
        self.main.moduleSelector().forget()
        self.settings().clear()
        for window in self.top_level_widgets():
            if window is not self.main:
                window.close()
                window.deleteLater()
        self.process_events()

    def _use_settings_folder(self, names: dict[str, Any], parts: Any) -> None:
        settings = names["QSettings"]
        settings.setDefaultFormat(settings.IniFormat)
        folder = parts.application_logic.GetTemporaryPath()
        settings.setPath(settings.IniFormat, settings.UserScope, folder)

    def _publish_widgets(self) -> None:
        import slicer

        from pythonqt import mrml_widgets, node_combo_box, segment_editor, segment_effects

        segment_effects.publish()
        for module in (mrml_widgets, node_combo_box, segment_editor, segment_effects):
            for name, value in vars(module).items():
                if name.startswith(("qMRML", "qSlicer")):
                    setattr(slicer, name, value)


class ModuleSelector:
    """Stands for the list of modules in the tool bar."""

    def __init__(self) -> None:
        self.selectedModule = ""

    def selectModule(self, name: str) -> None:
        """Leave the current module and enter another."""
        import slicer

        if name == self.selectedModule:
            return
        entered = slicer.util.getModule(name)
        if self.selectedModule:
            slicer.util.getModule(self.selectedModule).widgetRepresentation().exit()
        self.selectedModule = name
        if entered.widgetRepresentation():
            entered.widgetRepresentation().enter()

    def forget(self) -> None:
        """No module is open."""
        self.selectedModule = ""


def _make_main_window() -> Any:
    import qt

    class MainWindow(qt.QMainWindow):
        """Stands for `qSlicerMainWindow`."""

        def __init__(self) -> None:
            super().__init__()
            self.objectName = "qSlicerMainWindow"
            self._selector = ModuleSelector()

        def moduleSelector(self) -> ModuleSelector:
            """The list of modules."""
            return self._selector

    return MainWindow()

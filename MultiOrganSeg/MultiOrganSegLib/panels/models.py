"""The section with the trained networks of this computer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from multiorganseg.bundles import (
    AlreadyInstalledError,
    Bundle,
    BundleProblem,
    install_bundle,
    remove_bundle,
    user_models_dir,
)
from multiorganseg.children import module_command
from multiorganseg.errors import BundleError, MultiOrganSegError
from multiorganseg.events import EventKind, failure
from multiorganseg.needs import SEGMENT
from multiorganseg.text import counted
from MultiOrganSegLib import dependencies
from MultiOrganSegLib.child import child_environment, python_executable
from MultiOrganSegLib.failure import cannot_start, silent_failure
from MultiOrganSegLib.folder import make_private_folder
from MultiOrganSegLib.job import Job
from MultiOrganSegLib.panels.add_network import AddNetworkPane
from MultiOrganSegLib.panels.controls import MessageArea, ask_open
from MultiOrganSegLib.panels.pictures import lay_out
from MultiOrganSegLib.panels.words import mean_dice

_CHECK = "multiorganseg.bundles.report_damage"
_POLL_MILLISECONDS = 150


class ModelsPanel:
    """The table of models, the card of the chosen one, and what can be done with them.

    Args:
        ui: The widgets of the .ui file.
        changed: Called when a model was installed or removed.

    Attributes:
        message: Where errors and what was done are shown.
        add: Adds networks of other programs.
    """

    def __init__(self, ui: Any, changed: Callable[[], None]) -> None:
        self.message = MessageArea(ui.modelsMessageFrame, ui.modelsMessageLabel)
        self._ui = ui
        self._changed = changed
        self._entries: Sequence[Bundle | BundleProblem] = ()
        ui.modelsTable.connect("currentCellChanged(int,int,int,int)", lambda row: self._show_card(row))
        self.add = AddNetworkPane(ui, self.message, self._reload_all)
        ui.installModelButton.connect("clicked(bool)", lambda: self._install())
        ui.verifyModelsButton.connect("clicked(bool)", lambda: self._verify())
        ui.removeModelButton.connect("clicked(bool)", lambda: self._remove())
        ui.modelsSection.connect("contentsCollapsed(bool)", self._collapsed)
        lay_out(ui.modelsTable)
        self._check: Any = None
        self._timer = qt.QTimer(ui.modelsTable)
        self._timer.setInterval(_POLL_MILLISECONDS)
        self._timer.connect("timeout()", self._poll_check)

    def reload(self) -> None:
        """Read the bundles of this computer anew, but not their weights."""
        self._show(dependencies.readable_bundles())

    def _show(self, entries: Sequence[Bundle | BundleProblem]) -> None:
        self._entries = entries
        table = self._ui.modelsTable
        blocked = table.blockSignals(True)
        table.clearContents()
        table.rowCount = len(self._entries)
        for row, entry in enumerate(self._entries):
            for column, text in enumerate(_cells(entry)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                table.setItem(row, column, item)
        table.blockSignals(blocked)
        self._select(0)

    def _collapsed(self, collapsed: bool) -> None:
        if not collapsed and not self._entries:
            self.reload()

    def _select(self, row: int) -> None:
        if self._entries:
            self._ui.modelsTable.setCurrentCell(row, 0)
        self._show_card(row)

    def _current(self) -> Bundle | BundleProblem | None:
        row = self._ui.modelsTable.currentRow()
        return self._entries[row] if 0 <= row < len(self._entries) else None

    def _show_card(self, row: int) -> None:
        entry = self._entries[row] if 0 <= row < len(self._entries) else None
        self._ui.removeModelButton.enabled = entry is not None and _is_own(entry)
        if entry is None:
            self._ui.modelCard.setPlainText("")
        elif isinstance(entry, BundleProblem):
            error = entry.error
            self._ui.modelCard.setPlainText("\n\n".join((error.problem, error.cause, error.next_step)))
        else:
            self._ui.modelCard.setMarkdown(entry.card_path.read_text(encoding="utf-8"))

    def _install(self) -> None:
        self.message.clear()
        path = ask_open(slicer.util.mainWindow(), _("Install a model"), _("Models (*.zip)"))
        if path is None:
            return
        self._guarded(lambda: self._install_file(path))

    def _install_file(self, path: Path) -> str:
        try:
            bundle = install_bundle(path)
        except AlreadyInstalledError as error:
            question = "\n\n".join((error.problem, error.cause, _("Install it all the same?")))
            if not slicer.util.confirmYesNoDisplay(question):
                return ""
            bundle = install_bundle(path, replace=True)
        self._reload_all(bundle.folder.name)
        return _("Installed {name} {version}; every file matches its checksum.").format(
            name=bundle.metadata.name, version=bundle.metadata.version
        )

    def _verify(self) -> None:
        self.message.clear()
        self._guarded(self._start_check)

    def _start_check(self) -> str:
        """Let a child process read every byte of the models, which takes seconds."""
        dependencies.ensure_dependencies(entry=SEGMENT)
        self.reload()
        folder = make_private_folder(Path(slicer.app.temporaryPath))
        self._check = Job(module_command(_CHECK, (), python_executable()), folder, child_environment())
        self._problems: dict[str, MultiOrganSegError] = {}
        try:
            self._check.start()
        except OSError as error:
            raise cannot_start(error) from error
        self._ui.verifyModelsButton.enabled = False
        self._timer.start()
        return _("Comparing every file with its checksum …")

    def _poll_check(self) -> None:
        running, code, log = self._check.running, self._check.exit_code, self._check.log
        for event in self._check.poll():
            if event["event"] == EventKind.FAILED:
                self._problems[str(event.get("folder"))] = failure(event)
        if running:
            return
        self.stop()
        self._show([self._checked(entry) for entry in self._entries])
        if code:
            self.message.show_error(silent_failure(code, log))
        elif self._problems:
            self.message.show_error(next(iter(self._problems.values())))
        else:
            self.message.show_note(
                counted(
                    len(self._entries),
                    _("{count} model verified: every file matches its checksum."),
                    _("{count} models verified: every file matches its checksum."),
                )
            )

    def stop(self) -> None:
        """End a check that is under way."""
        self._timer.stop()
        self._ui.verifyModelsButton.enabled = True
        if self._check is not None:
            self._check.cancel()
            self._check = None

    def _checked(self, entry: Bundle | BundleProblem) -> Bundle | BundleProblem:
        error = self._problems.get(str(entry.folder))
        return BundleProblem(entry.folder, error) if isinstance(error, BundleError) else entry

    def _remove(self) -> None:
        self.message.clear()
        entry = self._current()
        if entry is None:
            return
        name = entry.folder.name
        if slicer.util.confirmYesNoDisplay(
            _("Delete the model {name} from this computer?").format(name=name)
        ):
            self._guarded(lambda: self._remove_model(name))

    def _remove_model(self, name: str) -> str:
        remove_bundle(name)
        self._reload_all("")
        return _("Removed {name}.").format(name=name)

    def _reload_all(self, name: str) -> None:
        self.reload()
        self._select(next((row for row, entry in enumerate(self._entries) if entry.folder.name == name), 0))
        self._changed()

    def _guarded(self, action: Callable[[], str]) -> None:
        try:
            with slicer.util.WaitCursor():
                done = action()
        except MultiOrganSegError as error:
            self.message.show_error(error)
            return
        if done:
            self.message.show_note(done)


def _is_own(entry: Bundle | BundleProblem) -> bool:
    return entry.folder.parent == user_models_dir()


def _cells(entry: Bundle | BundleProblem) -> tuple[str, ...]:
    source = _("installed by you") if _is_own(entry) else _("MultiOrganSeg")
    if isinstance(entry, BundleProblem):
        return entry.folder.name, "", "", "", "", _("damaged")
    metadata = entry.metadata
    return (
        metadata.name,
        metadata.version,
        str(len(metadata.labels.organs)),
        mean_dice(metadata),
        metadata.license,
        source,
    )

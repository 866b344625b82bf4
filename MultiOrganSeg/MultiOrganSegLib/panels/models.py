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
    list_bundles,
    remove_bundle,
    user_models_dir,
)
from multiorganseg.errors import MultiOrganSegError
from multiorganseg.text import counted
from MultiOrganSegLib.panels.controls import MessageArea, ask_open
from MultiOrganSegLib.panels.pictures import lay_out
from MultiOrganSegLib.panels.words import mean_dice


class ModelsPanel:
    """The table of models, the card of the chosen one, and what can be done with them.

    Args:
        ui: The widgets of the .ui file.
        changed: Called when a model was installed or removed.

    Attributes:
        message: Where errors and what was done are shown.
    """

    def __init__(self, ui: Any, changed: Callable[[], None]) -> None:
        self.message = MessageArea(ui.modelsMessageFrame, ui.modelsMessageLabel)
        self._ui = ui
        self._changed = changed
        self._entries: Sequence[Bundle | BundleProblem] = ()
        ui.modelsTable.connect("currentCellChanged(int,int,int,int)", lambda row: self._show_card(row))
        ui.installModelButton.connect("clicked(bool)", lambda: self._install())
        ui.verifyModelsButton.connect("clicked(bool)", lambda: self._verify())
        ui.removeModelButton.connect("clicked(bool)", lambda: self._remove())
        ui.modelsSection.connect("contentsCollapsed(bool)", self._collapsed)
        lay_out(ui.modelsTable)

    def reload(self) -> None:
        """Read the bundles of this computer anew; each is verified."""
        self._entries = list_bundles()
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
        self.reload()
        self._guarded(self._first_problem)

    def _first_problem(self) -> str:
        for entry in self._entries:
            if isinstance(entry, BundleProblem):
                raise entry.error
        return counted(
            len(self._entries),
            _("{count} model verified: every file matches its checksum."),
            _("{count} models verified: every file matches its checksum."),
        )

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

"""Annotated cases of other tools: importing them into the project, and exporting the project's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import TrainingError
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.projects.project import Project
from multiorganseg.text import counted
from MultiOrganSegLib.add_organ import case_scene, commands
from MultiOrganSegLib.add_organ.answers import FoundDataset, new_subfolder, nnunet_folder, read_found
from MultiOrganSegLib.panels.controls import Choice, ChoiceBox, ask_folder
from MultiOrganSegLib.panels.pictures import lay_out


class ExchangePane:
    """Asks for folders, lets the user say which label is which organ, and runs the commands.

    Args:
        ui: The widgets of the section.
        panel: The `AddOrganPanel`.

    Attributes:
        found: What is about to be imported; None when nothing is.
    """

    def __init__(self, ui: Any, panel: Any) -> None:
        self.found: FoundDataset | None = None
        self._ui = ui
        self._panel = panel
        self._session = panel.session
        self._organs: dict[str, str] = {}
        self._project_folder: Path | None = None
        self._organ = ChoiceBox(ui.importOrganSelector, self._organ_chosen)
        ui.importButton.connect("clicked(bool)", lambda: self._import())
        ui.importTable.connect("currentCellChanged(int,int,int,int)", lambda row: self._label_chosen(row))
        ui.importStartButton.connect("clicked(bool)", lambda: panel.guarded(self._start))
        ui.importDropButton.connect("clicked(bool)", lambda: self._drop())
        ui.exportNnunetButton.connect("clicked(bool)", lambda: panel.guarded(self._export_nnunet))
        ui.exportDicomButton.connect("clicked(bool)", lambda: panel.guarded(self._export_dicom))
        lay_out(ui.importTable)

    def update(self) -> None:
        """Show what can be done now; what was found for another project is forgotten."""
        project, ui = self._session.project, self._ui
        folder = project.folder if project is not None else None
        if folder != self._project_folder:
            self._project_folder, self.found = folder, None
        idle = not self._session.queue.busy
        ui.exchangeBox.visible = project is not None
        for button in (ui.importButton, ui.exportNnunetButton, ui.exportDicomButton, ui.importStartButton):
            button.enabled = idle
        ui.importFrame.visible = self.found is not None
        if project is not None and self.found is not None:
            self._fill(project, self.found)

    def _import(self) -> None:
        folder = ask_folder(slicer.util.mainWindow(), _("Folder with annotated cases"))
        if folder is not None:
            self._panel.guarded(lambda: self._inspect(folder))

    def _inspect(self, folder: Path) -> None:
        work = case_scene.temporary_folder()
        answer = Path(work.name) / "found.json"

        def looked(_warnings: Sequence[str]) -> None:
            self.found = read_found(folder, answer)
            self._organs = dict(self.found.labels)

        arguments = commands.inspect(self._session.project.folder, folder, answer)
        self._run(_("Looking at {folder}").format(folder=folder.name), arguments, looked, work.cleanup)

    def _fill(self, project: Project, found: FoundDataset) -> None:
        kind = {"nnunet": _("nnU-Net"), "msd": _("Decathlon"), "dicom-seg": _("DICOM SEG")}[found.kind]
        self._ui.importLabel.text = _(
            "<b>{name}</b> ({kind}), {cases}. Which organ is each label? What you leave out counts as "
            "not annotated."
        ).format(name=escape(found.name), kind=kind, cases=_cases(len(found.cases)))
        table, row = self._ui.importTable, max(self._ui.importTable.currentRow(), 0)
        blocked = table.blockSignals(True)
        table.clearContents()
        table.rowCount = len(found.labels)
        for number, label in enumerate(found.labels):
            table.setItem(number, 0, qt.QTableWidgetItem(label))
            table.setItem(number, 1, qt.QTableWidgetItem(_organ_name(project, self._organs[label])))
        table.setCurrentCell(min(row, len(found.labels) - 1), 0)
        table.blockSignals(blocked)
        tip = _("An organ of this project.")
        self._organ.fill(
            [
                Choice("", _("Leave it out"), _("The label is not taken over.")),
                *(Choice(key, project.catalogue.get(key).name, tip) for key in project.keys),
            ]
        )
        self._label_chosen(table.currentRow())

    def _label_chosen(self, row: int) -> None:
        labels = list(self._organs)
        self._organ.set_value(self._organs[labels[row]] if 0 <= row < len(labels) else "")

    def _organ_chosen(self, key: str) -> None:
        row, labels = self._ui.importTable.currentRow(), list(self._organs)
        if 0 <= row < len(labels):
            self._organs[labels[row]] = key
            name = _organ_name(self._session.project, key)
            self._ui.importTable.item(row, 1).setText(name)

    def _start(self) -> None:
        found, project = self.found, self._session.project
        if found is None:
            return
        if not any(self._organs.values()):
            raise TrainingError(
                _("No label is an organ of the project."),
                next_step=_("Choose a label and its organ, or add the organ to the project first."),
            )
        count = len(found.cases)

        def imported(warnings: Sequence[str]) -> None:
            self.found = None
            self._panel.message.show_note(
                _("{name} is imported ({cases}): see step 2.").format(cases=_cases(count), name=found.name),
                warnings,
            )

        arguments = commands.import_cases(project.folder, found.folder, self._organs)
        self._run(_("Importing {name}").format(name=found.name), arguments, imported)

    def _drop(self) -> None:
        self.found = None
        self._panel.update()

    def _export_nnunet(self) -> None:
        project = self._annotated_project()
        parent = ask_folder(slicer.util.mainWindow(), _("Folder for nnU-Net datasets (nnUNet_raw)"))
        if parent is not None:
            target = nnunet_folder(parent, project.name)
            self._export(commands.export_nnunet(project.folder, target), target)

    def _export_dicom(self) -> None:
        project = self._annotated_project()
        window = slicer.util.mainWindow()
        series = ask_folder(window, _("Folder with the DICOM series that the images come from"))
        parent = ask_folder(window, _("Folder to write into")) if series is not None else None
        if series is not None and parent is not None:
            target = new_subfolder(parent, _("{name} DICOM SEG").format(name=project.folder.name))
            self._export(commands.export_dicom_seg(project.folder, target, series), target)

    def _export(self, arguments: list[str], target: Path) -> None:
        def exported(warnings: Sequence[str]) -> None:
            said = _("Exported to {folder}.").format(folder=target)
            self._panel.message.show_note(said, warnings)

        self._run(_("Exporting"), arguments, exported)

    def _annotated_project(self) -> Project:
        project: Project = self._session.project
        if not any(LabelStatus.ANNOTATED in row.values() for row in project.matrix.rows.values()):
            raise TrainingError(
                _("Nothing is annotated in this project."), next_step=_("Annotate a case in step 2 first.")
            )
        return project

    def _run(
        self, text: str, arguments: list[str], done: Callable[[Sequence[str]], None], finally_: Any = None
    ) -> None:
        self._panel.run(text, arguments, done, finally_)
        self._panel.update()


def _organ_name(project: Project, key: str) -> str:
    return project.catalogue.get(key).name if key else "–"


def _cases(count: int) -> str:
    return counted(count, _("{count} case"), _("{count} cases"))

"""Second step of adding an organ: the cases of the project and what is known of each organ in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
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
from MultiOrganSegLib.add_organ.answers import read_ranking
from MultiOrganSegLib.panels.controls import Choice, ChoiceBox, ask_open_many
from MultiOrganSegLib.panels.pictures import lay_out
from MultiOrganSegLib.panels.words import status_text, status_tip

_COLORS = {
    LabelStatus.ANNOTATED: (60, 150, 90, 90),
    LabelStatus.ABSENT: (80, 130, 190, 90),
    LabelStatus.PSEUDO: (230, 160, 30, 90),
    LabelStatus.UNKNOWN: (128, 128, 128, 40),
}


class WorklistPane:
    """The table of cases, and adding cases.

    Args:
        ui: The widgets of the section.
        panel: The `AddOrganPanel`.
        cases: The `CasePane`, which opens a case.
    """

    def __init__(self, ui: Any, panel: Any, cases: Any) -> None:
        self._ui = ui
        self._panel = panel
        self._session = panel.session
        self._cases = cases
        self._organ = ChoiceBox(ui.organSelector, lambda _key: panel.update())
        cases.organ_key = lambda: self._organ.value
        ui.caseTable.connect("currentCellChanged(int,int,int,int)", lambda _row: self._row_chosen())
        ui.caseTable.connect("cellDoubleClicked(int,int)", lambda row, _column: self._open(row))
        ui.openCaseButton.connect("clicked(bool)", lambda: self._open(ui.caseTable.currentRow()))
        ui.allOrgansCheck.connect("toggled(bool)", lambda _on: self.update())
        ui.addVolumeButton.connect("clicked(bool)", lambda: self._add(self._shown))
        ui.addAllButton.connect("clicked(bool)", lambda: self._add(self._others))
        ui.addFilesButton.connect("clicked(bool)", lambda: self._add_files())
        ui.nextButton.connect("clicked(bool)", lambda: panel.guarded(self._ask_next))
        lay_out(ui.caseTable)

    def choose_organ(self, key: str) -> None:
        """Annotate another organ."""
        self._fill_organs()
        self._organ.set_value(key)

    def update(self) -> None:
        """Show the cases as they are now; the chosen one stays chosen."""
        project = self._session.project
        if project is None:
            return
        self._fill_organs()
        keys = self._columns(project)
        table = self._ui.caseTable
        chosen = self._chosen_name()
        blocked = table.blockSignals(True)
        table.clearContents()
        table.columnCount = 1 + len(keys)
        table.setHorizontalHeaderLabels([_("Case"), *(project.catalogue.get(key).name for key in keys)])
        table.rowCount = len(project.cases)
        for row, (case, status) in enumerate(project.matrix.rows.items()):
            table.setItem(row, 0, self._name_item(project, case))
            for column, key in enumerate(keys, start=1):
                table.setItem(row, column, _chip(status[key]))
        names = list(project.cases)
        table.setCurrentCell(names.index(chosen) if chosen in names else -1, 0)
        table.blockSignals(blocked)
        self._ui.casesLabel.text = self._summary(project)
        self._ui.nextButton.enabled = _counts(project, self._organ.value)[LabelStatus.UNKNOWN] > 0
        self._row_chosen()

    def _summary(self, project: Project) -> str:
        if not project.cases:
            return _("No case yet: load a CT and press “Add volume”, or add image files.")
        counts = _counts(project, self._organ.value)
        parts = [f"{counts[status]} {status_text(status)}" for status in _COLORS if counts[status]]
        cases = counted(len(project.cases), _("{count} case"), _("{count} cases"))
        return _("{cases}: {parts}").format(cases=cases, parts=", ".join(parts))

    def _columns(self, project: Project) -> tuple[str, ...]:
        new_organs = self._session.new_organs
        if not self._ui.allOrgansCheck.checked:
            return new_organs
        return new_organs + tuple(key for key in project.keys if key not in new_organs)

    def _fill_organs(self) -> None:
        project = self._session.project
        if project is None:
            return
        new_organs = self._session.new_organs
        known = tuple(key for key in project.keys if key not in new_organs)
        tip = _("An organ of the base model: annotate it to correct what the model does.")
        new = [Choice(key, project.catalogue.get(key).name, _("An organ to add.")) for key in new_organs]
        old = [Choice(key, project.catalogue.get(key).name, tip) for key in known]
        self._organ.fill([*new, *old])

    def _name_item(self, project: Project, case: str) -> Any:
        item = qt.QTableWidgetItem(case)
        item.setToolTip(str(project.image_path(case)))
        if case == self._cases.case_name:
            font = item.font()
            font.setBold(True)
            item.setFont(font)
        return item

    def _chosen_name(self) -> str:
        item = self._ui.caseTable.item(self._ui.caseTable.currentRow(), 0)
        return item.text() if item else ""

    def _row_chosen(self) -> None:
        self._ui.openCaseButton.enabled = self._ui.caseTable.currentRow() >= 0

    def _open(self, row: int) -> None:
        item = self._ui.caseTable.item(row, 0)
        if item is not None:
            self._cases.open(item.text())

    def _shown(self) -> list[Any]:
        """The volume in the background of the slice views, else the only one of the scene."""
        composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
        identity = composite.GetBackgroundVolumeID() if composite else None
        node = slicer.mrmlScene.GetNodeByID(identity) if identity else None
        volumes = _volumes()
        if node in volumes:
            return [node]
        return volumes if len(volumes) == 1 else []

    def _others(self) -> list[Any]:
        return [node for node in _volumes() if not case_scene.is_case(node, self._session.project)]

    def _add(self, find: Callable[[], list[Any]]) -> None:
        self._panel.guarded(lambda: self._add_nodes(find()))

    def _add_nodes(self, nodes: list[Any]) -> None:
        project: Project = self._session.project
        if not nodes:
            raise TrainingError(
                _("There is no volume to add."),
                next_step=_("Load a CT and show it in the slice views, or add image files."),
            )
        names = free_names([node.GetName() for node in nodes], project)
        for node, name in zip(nodes, names, strict=True):
            if case_scene.is_case(node, project):
                raise _is_case_already(node.GetName())
            folder = case_scene.temporary_folder()
            try:
                with slicer.util.WaitCursor():
                    image = case_scene.image_file(node, Path(folder.name))
            except BaseException:
                folder.cleanup()
                raise
            self._add_image(image, name, partial(case_scene.mark, node, project, name), folder.cleanup)

    def _add_files(self) -> None:
        kinds = _("Images (*.nii.gz *.nii *.nrrd *.mha)")
        paths = ask_open_many(slicer.util.mainWindow(), _("Add images as cases"), kinds)
        names = [_stem(path.name) for path in paths]
        self._panel.guarded(lambda: self._add_paths(paths, names))

    def _add_paths(self, paths: list[Path], names: list[str]) -> None:
        doubled = next((n for n in names if n in self._session.project.cases or names.count(n) > 1), "")
        if doubled:
            raise _is_case_already(doubled)
        for path, name in zip(paths, names, strict=True):
            self._add_image(path, name, lambda: None)

    def _ask_next(self) -> None:
        project, organ = self._session.project, self._organ.value
        folder = case_scene.temporary_folder()
        answer = Path(folder.name) / "next.json"
        arguments = commands.next_case(project.folder, self._session.base, organ, answer)
        text = _("Ranking the cases")
        self._panel.run(text, arguments, lambda _warnings: self._tell_next(answer), folder.cleanup)

    def _tell_next(self, answer: Path) -> None:
        ranked = read_ranking(answer)
        if not ranked:
            self._panel.message.show_note(_("The organ is known in every case."))
            return
        name, reason = ranked[0]
        names = list(self._session.project.cases)
        self._ui.caseTable.setCurrentCell(names.index(name) if name in names else -1, 0)
        self._panel.message.show_note(_("Annotate {case} next: {reason}").format(case=name, reason=reason))

    def _add_image(
        self, image: Path, name: str, added: Callable[[], object], finally_: Callable[[], None] | None = None
    ) -> None:
        arguments = commands.add_case(self._session.project.folder, image, name)

        def added_now(warnings: Sequence[str]) -> None:
            added()
            said = _("{name} is a case now: double-click it to open it.").format(name=name)
            self._panel.message.show_note(said, warnings)

        self._panel.run(_("Adding {name}").format(name=name), arguments, added_now, finally_)


def _counts(project: Project, organ: str) -> Counter[LabelStatus]:
    """Number of cases by status of an organ; of none where none is chosen."""
    return project.matrix.counts(organ) if organ else Counter()


def _chip(status: LabelStatus) -> Any:
    item = qt.QTableWidgetItem(status_text(status))
    item.setTextAlignment(qt.Qt.AlignCenter)
    item.setBackground(qt.QBrush(qt.QColor(*_COLORS[status])))
    item.setToolTip(status_tip(status))
    return item


def _volumes() -> list[Any]:
    found = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in found if node.GetClassName() == "vtkMRMLScalarVolumeNode"]


def free_names(names: list[str], project: Project) -> list[str]:
    """Names that are safe as those of files and not taken; a number is put behind those that are."""
    taken, free = {name.casefold() for name in project.cases}, []
    for name in names:
        stem = "".join("_" if letter in '<>:"/\\|?*' or ord(letter) < 32 else letter for letter in name)
        stem = _stem(stem).strip(" .") or "case"
        tries = (stem if number == 1 else f"{stem}_{number}" for number in range(1, len(taken) + 2))
        free.append(next(name for name in tries if name.casefold() not in taken))
        taken.add(free[-1].casefold())
    return free


def _stem(name: str) -> str:
    from multiorganseg.volumes.names import case_name

    return case_name(name)


def _is_case_already(name: str) -> TrainingError:
    return TrainingError(
        _("{name} is a case of this project already.").format(name=name),
        next_step=_("Double-click it in the list to annotate it, or rename the image if it is another one."),
    )

"""Fourth step of adding an organ: old against new, publishing, and going back."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import TrainingError
from multiorganseg.projects.acceptance import AcceptanceReport, OrganVerdict, Verdict, load_acceptance
from multiorganseg.projects.project import Project
from multiorganseg.projects.runs import RunState
from multiorganseg.text import counted
from MultiOrganSegLib.add_organ import commands
from MultiOrganSegLib.add_organ.answers import newest_published
from MultiOrganSegLib.panels.add_organ_learning import LearningPane
from MultiOrganSegLib.panels.pictures import lay_out, show_picture, swatch
from MultiOrganSegLib.panels.words import verdict_text

_COLORS = {
    Verdict.PASS: (60, 150, 90, 90),
    Verdict.FAIL: (214, 69, 65, 110),
    Verdict.UNPROVEN: (230, 160, 30, 90),
}
_PICTURE_HEIGHT = 240


class ReportPane:
    """The table of a run's acceptance check, and what follows from it.

    Args:
        ui: The widgets of the section.
        panel: The `AddOrganPanel`.
        train: The `TrainPane`, which knows the run.
    """

    def __init__(self, ui: Any, panel: Any, train: Any) -> None:
        self._ui = ui
        self._panel = panel
        self._session = panel.session
        self._train = train
        self._report: AcceptanceReport | None = None
        self._organs: list[tuple[str, OrganVerdict]] = []
        self._read: tuple[Path, int] | None = None
        ui.reportTable.connect("currentCellChanged(int,int,int,int)", lambda row: self._describe(row))
        ui.publishButton.connect("clicked(bool)", lambda: self._publish())
        ui.forceReason.connect("textChanged(QString)", lambda text: self._reason_written(text))
        ui.forceButton.connect("clicked(bool)", lambda: self._start_publishing(ui.forceReason.text.strip()))
        ui.forceDropButton.connect("clicked(bool)", lambda: self._ask_force(False))
        ui.compareButton.connect("clicked(bool)", lambda: panel.guarded(self._compare))
        ui.rollbackButton.connect("clicked(bool)", lambda: panel.guarded(self._roll_back))
        self._learning = LearningPane(ui, panel)
        lay_out(ui.reportTable)

    def update(self) -> None:
        """Show the report of the run as it is on disk now."""
        run, project = self._train.run, self._session.project
        path = run.report if run else None
        seen = (path, path.stat().st_mtime_ns) if path and path.is_file() else None
        if seen != self._read:
            self._read, self._report, self._organs = seen, None, []
            self._ask_force(False)
            self._learning.clear()
            if run and seen:
                self._load(run.folder)
            self._fill()
        ui, idle = self._ui, not self._session.queue.busy
        ui.publishButton.enabled = self._report is not None and idle
        ui.learningButton.enabled = self._report is not None and idle
        ui.compareButton.enabled = run is not None and self._train.state is RunState.FINISHED and idle
        published = newest_published(project.folder) if project else None
        ui.rollbackButton.enabled = published is not None and published.name in self._session.bundles and idle
        ui.reportLabel.text = self._summary()

    def _load(self, run: Path) -> None:
        try:
            self._report = load_acceptance(run)
        except TrainingError as error:
            self._panel.show_error(error)
        self._organs = list(self._report.worst_first().items()) if self._report else []

    def _summary(self) -> str:
        report = self._report
        if report is None:
            return _("No report yet: it comes at the end of a training.")
        verdict = _("Passed") if report.passed else _("Not passed")
        cases = counted(len(report.cases), _("{count} case"), _("{count} cases"))
        how = {
            "hold-out": _("compared on what was held out ({cases})"),
            "cross-validation": _("compared by cross-validation over {cases}"),
            "none": _("no case could be held out, so that nothing is proven"),
        }.get(report.how, _("compared on {cases}")).format(cases=cases)
        return f"<b>{verdict}</b>: {how}."

    def _fill(self) -> None:
        table, organs = self._ui.reportTable, self._organs
        project: Project = self._session.project
        blocked = table.blockSignals(True)
        table.clearContents()
        table.rowCount = len(organs)
        for row, (key, organ) in enumerate(organs):
            known = project.catalogue.organs.get(key)
            name = qt.QTableWidgetItem(known.name if known else key)
            if known:
                name.setIcon(swatch([part / 255 for part in known.color]))
            if organ.role == "new":
                font = name.font()
                font.setBold(True)
                name.setFont(font)
            table.setItem(row, 0, name)
            table.setItem(row, 1, _number(organ.dice_old, "{:.3f}"))
            table.setItem(row, 2, _dice_new(organ))
            change = _number(organ.difference, "{:+.3f}")
            if organ.confidence_interval:
                low, high = organ.confidence_interval
                change.setToolTip(_("95 % confidence: {low:+.3f} to {high:+.3f}").format(low=low, high=high))
            table.setItem(row, 3, change)
            chip = qt.QTableWidgetItem(verdict_text(organ.verdict))
            chip.setTextAlignment(qt.Qt.AlignCenter)
            chip.setBackground(qt.QBrush(qt.QColor(*_COLORS[organ.verdict])))
            chip.setToolTip(organ.why)
            table.setItem(row, 4, chip)
        table.setCurrentCell(0 if organs else -1, 0)
        table.blockSignals(blocked)
        self._describe(0)

    def _describe(self, row: int) -> None:
        organ = self._organs[row][1] if 0 <= row < len(self._organs) else None
        worst = organ.worst_case if organ else ""
        said = [escape(organ.why)] if organ and organ.why else []
        if worst:
            said.append(_("Worst case: {case}.").format(case=escape(worst)))
        self._ui.verdictLabel.text = " ".join(said)
        run = self._train.run
        picture = run.folder / organ.picture if run and organ and organ.picture else None
        within = self._ui.projectStepButton.parentWidget()
        show_picture(self._ui.pictureLabel, picture, within, _PICTURE_HEIGHT)

    def _publish(self) -> None:
        if self._report is not None and self._report.passed:
            self._panel.guarded(self._start_publishing)
        else:
            self._ask_force(True)

    def _ask_force(self, asked: bool) -> None:
        self._ui.forceFrame.visible = asked
        if asked:
            self._ui.forceLabel.text = _(
                "The new model did not pass. It can be published all the same if you give a reason, which "
                "its card shows to everyone who uses it."
            )
            self._ui.forceReason.setFocus()
            self._reason_written(self._ui.forceReason.text)

    def _reason_written(self, text: str) -> None:
        self._ui.forceButton.enabled = bool(text.strip())

    def _start_publishing(self, reason: str = "") -> None:
        project: Project = self._session.project

        def published(_warnings: Sequence[str]) -> None:
            self._ask_force(False)
            self._ui.forceReason.text = ""
            newest = newest_published(project.folder)
            if newest is None:
                raise TrainingError(
                    _("The published model is not found."), next_step=_("Look into the section Models.")
                )
            self._panel.published(newest.name)
            self._panel.message.show_note(
                _("{name} {version} is published and chosen in the section Segment.").format(
                    name=newest.name, version=newest.version
                )
            )

        arguments = commands.publish(project.folder, self._train.run.name, reason)
        self._panel.run(_("Publishing"), arguments, published)
        self.update()

    def _compare(self) -> None:
        arguments = commands.check_acceptance(self._session.project.folder, self._train.run.name)
        self._panel.run(_("Comparing old and new"), arguments, lambda _warnings: None)
        self.update()

    def _roll_back(self) -> None:
        project: Project = self._session.project
        newest = newest_published(project.folder)
        if newest is None:
            return
        question = _("Remove {name} {version} from the models of this computer?").format(
            name=newest.name, version=newest.version
        )
        if not slicer.util.confirmYesNoDisplay(question):
            return

        def removed(_warnings: Sequence[str]) -> None:
            self._session.reload_bundles()
            name = newest.name if newest.name in self._session.bundles else self._session.base
            self._panel.published(name)
            self._panel.message.show_note(_("Rolled back; {name} is in use again.").format(name=name))

        self._panel.run(_("Rolling back"), commands.rollback(project.folder, newest.name), removed)
        self.update()


def _dice_new(organ: OrganVerdict) -> Any:
    """Its Dice; with a star where it is not against an annotation but against the base model."""
    by_base = organ.reference == "base"
    item = _number(organ.dice_new, "{:.3f}*" if by_base else "{:.3f}")
    if by_base:
        item.setToolTip(_("Not annotated in the cases compared: agreement with the base model."))
    return item


def _number(value: float | None, form: str) -> Any:
    item = qt.QTableWidgetItem("–" if value is None else form.format(value))
    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return item

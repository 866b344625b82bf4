"""The section that adds organs to a model: four steps over one project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import MultiOrganSegError
from multiorganseg.needs import ADD_ORGAN
from MultiOrganSegLib import dependencies
from MultiOrganSegLib.add_organ.session import Session
from MultiOrganSegLib.panels.add_organ_case import CasePane
from MultiOrganSegLib.panels.add_organ_exchange import ExchangePane
from MultiOrganSegLib.panels.add_organ_keep import KeepPane
from MultiOrganSegLib.panels.add_organ_project import ProjectPane
from MultiOrganSegLib.panels.add_organ_report import ReportPane
from MultiOrganSegLib.panels.add_organ_train import TrainPane
from MultiOrganSegLib.panels.add_organ_worklist import WorklistPane
from MultiOrganSegLib.panels.controls import MessageArea

STEPS = ("project", "cases", "train", "report")
_RUN_STEPS = ("train", "report")
_POLL_MILLISECONDS = 250


class AddOrganPanel:
    """Shows one step at a time; everything slow is a child process that a timer asks.

    Its widgets are made when the section is opened first, so that the module opens as fast as without it.

    Args:
        section: The collapsible section.
        ui_folder: Holds `AddOrgan.ui`, what is in the section.
        logic: The module's logic, for the pre-segmentation.
        published: Called when models changed, with the name of the one to choose; empty for none.

    Attributes:
        ui: The widgets by name; None before the section was opened.
        session: The project.
        message: Where errors and what was done are shown.
    """

    def __init__(self, section: Any, ui_folder: Path, logic: Any, published: Callable[[str], None]) -> None:
        self.ui: Any = None
        self.session = Session()
        self._section = section
        self._ui_path = ui_folder / "AddOrgan.ui"
        self._logic = logic
        self._published = published
        self._step = STEPS[0]
        section.connect("contentsCollapsed(bool)", self._collapsed)

    @property
    def is_open(self) -> bool:
        """Whether the section was opened, so that there are widgets."""
        return self.ui is not None

    def enter(self) -> None:
        """The module is shown."""
        if self.is_open:
            self._guarded(self.session.reload)
            self.cases.enter()
            self.update()

    def exit(self) -> None:
        """Another module is shown."""
        if self.is_open:
            self.cases.exit()

    def cleanup(self) -> None:
        """The module goes away; a training goes on."""
        if self.is_open:
            self._timer.stop()
            self.session.queue.cancel()
            self.cases.close()

    def scene_closes(self) -> None:
        """The scene is about to be empty."""
        if self.is_open:
            self.cases.close()
            self.update()

    def show_step(self, step: str) -> None:
        """Show one of `STEPS`."""
        self._step = step
        for name in STEPS:
            getattr(self.ui, f"{name}StepButton").checked = name == step
            getattr(self.ui, f"{name}Step").visible = name == step
        self.update()

    def update(self) -> None:
        """Show everything as it is now."""
        has_project = self.session.project is not None
        for name in STEPS[1:]:
            getattr(self.ui, f"{name}StepButton").enabled = has_project
        self.project.update()
        self.exchange.update()
        if has_project:
            self.worklist.update()
            self.cases.update()
            self.keep.update()
            self.train.update()
            self.report.update()
        self.ui.runPane.visible = self._step in _RUN_STEPS and self.train.has_runs
        self._show_busy()

    def keep_result(self, node: Any) -> None:
        """Open the section, and ask which organs of a result shall become annotations of a case."""
        self._section.collapsed = False
        self._collapsed(False)
        self.guarded(lambda: self.keep.show(node))

    def watch(self) -> None:
        """Let the timer run, since something is under way."""
        self._timer.start()
        self._show_busy()

    def show_error(self, error: MultiOrganSegError) -> None:
        """Show an error in the section."""
        self.message.show_error(error)

    def run(
        self, text: str, arguments: list[str], done: Callable[[Sequence[str]], None], finally_: Any = None
    ) -> None:
        """Let a command change the project, and show everything anew when it has ended.

        What it needs is installed before, after a question; without it an error is shown.
        """
        self.message.clear()
        try:
            dependencies.ensure_dependencies(entry=ADD_ORGAN)
        except MultiOrganSegError as error:
            self.message.show_error(error)
            (finally_ or _nothing)()
            return

        def finished(warnings: Sequence[str]) -> None:
            done(warnings)
            self.update()

        self.session.command(text, arguments, finished, finally_ or _nothing)
        self.watch()

    def reload_models(self) -> None:
        """Models of this computer changed outside of this section."""
        if self.is_open:
            self.session.reload_bundles()
            self.update()

    def published(self, name: str) -> None:
        """Models of this computer changed: show them everywhere and choose one; none when it is empty."""
        self.session.reload_bundles()
        self._published(name)

    def guarded(self, action: Callable[[], object]) -> None:
        """Do what the user asked; an error is shown."""
        self.message.clear()
        self._guarded(action)

    def _collapsed(self, collapsed: bool) -> None:
        if not collapsed and not self.is_open:
            with slicer.util.WaitCursor():
                self._build()

    def _build(self) -> None:
        root = slicer.util.loadUI(str(self._ui_path))
        self._section.layout().addWidget(root)
        self.ui = slicer.util.childWidgetVariables(root)
        self.message = MessageArea(self.ui.addOrganMessageFrame, self.ui.addOrganMessageLabel)
        self._timer = qt.QTimer(root)
        self._timer.setInterval(_POLL_MILLISECONDS)
        self._timer.connect("timeout()", self._tick)
        self.project = ProjectPane(self.ui, self)
        self.exchange = ExchangePane(self.ui, self)
        self.cases = CasePane(self.ui, self, self._logic)
        self.worklist = WorklistPane(self.ui, self, self.cases)
        self.keep = KeepPane(self.ui, self)
        self.train = TrainPane(self.ui, self)
        self.report = ReportPane(self.ui, self, self.train)
        for name in STEPS:
            button = getattr(self.ui, f"{name}StepButton")
            button.connect("clicked(bool)", lambda _checked, step=name: self.show_step(step))
        self.ui.busyCancelButton.connect("clicked(bool)", lambda: self._cancel())
        self.session.reload_bundles()
        self._guarded(self.session.reopen)
        self.train.project_changed()
        self.show_step("project" if self.session.project is None or not self.session.new_organs else "cases")

    def _tick(self) -> None:
        if error := self.session.poll():
            self.message.show_error(error)
            self.update()
        self.cases.poll()
        self.train.poll()
        self._show_busy()
        if not (self.session.queue.busy or self.cases.busy or self.train.busy):
            self._timer.stop()

    def _show_busy(self) -> None:
        busy = self.session.queue.busy
        self.ui.busyLabel.text = f"{self.session.queue.text or _('Starting')} …" if busy else ""
        self.ui.busyLabel.visible = busy
        self.ui.busyCancelButton.visible = busy
        fraction = self.session.queue.fraction
        self.ui.busyBar.visible = busy and fraction is not None
        self.ui.busyBar.value = round(100 * (fraction or 0.0))

    def _cancel(self) -> None:
        self.session.queue.cancel()
        self._guarded(self.session.reload)
        self.update()

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except MultiOrganSegError as error:
            self.message.show_error(error)


def _nothing() -> None:
    return None

"""Third step of adding an organ: starting a training, following it, pausing and discarding it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import MultiOrganSegError, ResourceError, TrainingError
from multiorganseg.events import EventKind, EventTail, parse_event
from multiorganseg.needs import TRAIN
from multiorganseg.projects.project import Project
from multiorganseg.projects.runs import ALIVE, RESUMABLE, RUNS_FOLDER, RunState
from MultiOrganSegLib import dependencies
from MultiOrganSegLib.add_organ import commands, training_run
from MultiOrganSegLib.add_organ.curves import TrainingLog
from MultiOrganSegLib.add_organ.trainer import start_detached
from MultiOrganSegLib.add_organ.training_run import (
    Orders,
    TrainingRun,
    not_started_here,
    readiness,
    require_annotated,
)
from MultiOrganSegLib.failure import reported_failure
from MultiOrganSegLib.panels.controls import Choice, ChoiceBox
from MultiOrganSegLib.panels.device import device_choices
from MultiOrganSegLib.panels.pictures import training_plot
from MultiOrganSegLib.panels.words import eta_text, run_state_text, stage_text

_NOWHERE = Path()
_LOG_BYTES = 20_000


class TrainPane:
    """Follows one training of the project by its files, whether it was started here or not.

    Args:
        ui: The widgets of the section.
        panel: The `AddOrganPanel`.

    Attributes:
        run: The training that is shown; None when there is none.
        log: What it reported.
        state: Its state; None when there is no training.
    """

    def __init__(self, ui: Any, panel: Any) -> None:
        self.run: TrainingRun | None = None
        self.log = TrainingLog()
        self.state: RunState | None = None
        self._ui = ui
        self._panel = panel
        self._session = panel.session
        self._tail = EventTail(_NOWHERE)
        self._reading = False
        self._discarding = False
        self._process: subprocess.Popen[bytes] | None = None
        self._drawn: tuple[Any, ...] = ()
        self._time = ChoiceBox(ui.timeSelector, lambda _value: None)
        self._device = ChoiceBox(ui.trainDeviceSelector, lambda _value: None)
        self._runs = ChoiceBox(ui.runSelector, self._choose)
        self._time.fill(_time_choices())
        self._time.set_value("1h")
        self._device.fill(device_choices())
        ui.trainButton.connect("clicked(bool)", lambda: panel.guarded(self._train))
        ui.pauseButton.connect("clicked(bool)", lambda: panel.guarded(self._pause))
        ui.discardButton.connect("clicked(bool)", lambda: panel.guarded(self._discard))

    @property
    def has_runs(self) -> bool:
        """Whether the project has a training."""
        return self.run is not None

    @property
    def busy(self) -> bool:
        """Whether there is something to follow."""
        return self._reading or self._discarding or self.state in ALIVE

    def project_changed(self) -> None:
        """Another project is open: show the training that began last, such as one that outlived Slicer."""
        self.run, self._process = None, None
        found = self._list()
        self._follow(found[0] if found else None)

    def update(self) -> None:
        """Show what there is to learn from, and the training."""
        self._list()
        project: Project = self._session.project
        self._ui.readyLabel.text = readiness(project, self._session.new_organs, self._session.base)
        self._show()

    def poll(self) -> None:
        """Take what the training reported since the last call; to be called from a timer."""
        if self.run is None:
            return
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        events = self._tail.poll()
        for event in events:
            self.log.take(event)
        self._reading = bool(events)
        before, self.state = self.state, self.run.state(self.log.ended)
        if self._process is not None and self.state not in ALIVE:
            self.state = RunState.RUNNING
        if self._discarding and self.state not in ALIVE:
            self._delete()
            return
        ended = before in ALIVE and self.state not in ALIVE and not self._reading
        if before in ALIVE and self._reading:
            self.state = before
        if events or before != self.state:
            self._show()
        if ended:
            self._report_end()

    def _follow(self, run: TrainingRun | None) -> None:
        self.run, self.log = run, TrainingLog()
        self.state = RunState.RUNNING if self._process is not None else None
        self._drawn = ()
        if run is None:
            return
        self._runs.set_value(run.name)
        self._tail = EventTail(run.events)
        if orders := run.orders():
            self._time.set_value(orders.time)
            self._device.set_value(orders.device)
        self._reading = True
        self.poll()
        self._panel.watch()

    def _choose(self, name: str) -> None:
        project: Project = self._session.project
        self._process = None
        self._follow(TrainingRun(project.folder / RUNS_FOLDER / name))
        self._panel.update()

    def _list(self) -> list[TrainingRun]:
        project = self._session.project
        found = training_run.list_runs(project.folder) if project else []
        self._runs.fill([Choice(run.name, run.name, str(run.folder)) for run in found])
        if self.run is not None:
            self._runs.set_value(self.run.name)
        return found

    def _train(self) -> None:
        dependencies.ensure_dependencies(entry=TRAIN)
        project: Project = self._session.project
        if self.run is not None and self.state in RESUMABLE:
            orders = self.run.orders()
            if orders is None:
                raise not_started_here(self.run)
            run, orders = self.run, replace(orders, device=self._device.value)
        else:
            organs = self._session.new_organs
            require_annotated(project, organs)
            base = self._session.base_bundle().metadata.name
            run = training_run.new_run(project.folder, base, organs)
            orders = Orders(base, organs, self._time.value, self._device.value)
        arguments = commands.train(
            project.folder, run.name, orders.base, orders.organs, time=orders.time, device=orders.device
        )
        run.give_orders(orders)
        run.withdraw_stop()
        self._process = start_detached(arguments, run.log)
        run.give_orders(replace(orders, pid=self._process.pid))
        self.run = run
        self._list()
        self._follow(run)
        self._panel.update()

    def _pause(self) -> None:
        if self.run is None:
            return
        try:
            self.run.ask_to_stop()
        except OSError as error:
            raise ResourceError(
                _("The training cannot be asked to pause."),
                cause=str(error),
                next_step=_("Check that the project's folder can be written."),
            ) from error
        self.poll()

    def _discard(self) -> None:
        if self.run is None:
            return
        question = _("End the training {name} and delete what it has learned?").format(name=self.run.name)
        if not slicer.util.confirmYesNoDisplay(question):
            return
        if self.run.is_alive():
            self._pause()
            self.run.kill()
        self._discarding = True
        self._panel.watch()
        self.poll()

    def _delete(self) -> None:
        self._discarding = False
        run = self.run
        try:
            if run is not None:
                run.delete()
        except OSError as error:
            self._panel.show_error(
                ResourceError(
                    _("The training cannot be deleted."),
                    cause=str(error),
                    next_step=_("Close programs that use its files, and try again."),
                )
            )
        self.project_changed()
        self._panel.update()

    def _report_end(self) -> None:
        if self.state == RunState.FINISHED:
            self._panel.message.show_note(_("The training is finished: see step 4."))
        elif self.state in (RunState.FAILED, RunState.INTERRUPTED):
            self._panel.show_error(self._failure())
        self._panel.update()

    def _failure(self) -> MultiOrganSegError:
        lines = _last_lines(self.run.log) if self.run is not None else []
        events = [event for line in lines if (event := parse_event(line)) is not None]
        failed = [event for event in events if event["event"] == EventKind.FAILED]
        if found := self.log.failure or (failed[-1] if failed else None):
            return reported_failure(found)
        words = [line.decode("utf-8", "replace").strip() for line in lines if parse_event(line) is None]
        return TrainingError(
            _("The training was ended from outside."),
            cause=next((text for text in reversed(words) if text), ""),
            next_step=_("Press Resume: it goes on from its last checkpoint."),
        )

    def _show(self) -> None:
        ui, log = self._ui, self.log
        alive = self.state in ALIVE
        ui.trainButton.enabled = not alive and not self._discarding
        ui.trainButton.text = _("Resu&me") if self.state in RESUMABLE else _("&Train")
        ui.pauseButton.enabled = self.state == RunState.RUNNING
        ui.discardButton.enabled = self.run is not None and not self._discarding
        for control in (ui.timeSelector, ui.trainDeviceSelector):
            control.enabled = not alive
        shown = self.run is not None
        for part in (ui.trainBar, ui.trainLabel, ui.curveLabel):
            part.visible = shown
        ui.trainBar.value = round(100 * log.fraction)
        ui.trainLabel.text = self._words()
        text = "\n".join(log.messages)
        ui.trainMessages.visible = bool(text)
        if text != ui.trainMessages.plainText:
            ui.trainMessages.setPlainText(text)
        if shown:
            self._draw()

    def _words(self) -> str:
        log = self.log
        parts = [run_state_text(self.state)] if self.state else []
        if self.state == RunState.RUNNING and log.stage:
            parts = [stage_text(log.stage)]
        if log.iterations:
            parts.append(_("iteration {done} of {count}").format(done=log.iteration, count=log.iterations))
        if self.state == RunState.RUNNING:
            parts.append(eta_text(log.eta_seconds))
        if self.state in RESUMABLE:
            parts.append(_("Resume goes on from the last checkpoint"))
        return escape(" · ".join(part for part in parts if part), quote=False)

    def _draw(self) -> None:
        label = self._ui.curveLabel
        width, height = max(label.width, 200), label.minimumHeight
        log = self.log
        state = (width, log.iteration, log.iterations, len(log.mean_dice.points), len(log.loss.points))
        if state == self._drawn:
            return
        self._drawn = state
        project: Project = self._session.project
        orders = self.run.orders() if self.run else None
        organs = [
            project.catalogue.get(key) for key in (orders.organs if orders else self._session.new_organs)
        ]
        named = [(organ.key, organ.name, organ.color) for organ in organs]
        label.setPixmap(training_plot(log, named, width, height, label))


def _last_lines(path: Path) -> list[bytes]:
    """Lines at the end of what a process wrote."""
    try:
        with path.open("rb") as written:
            written.seek(max(0, written.seek(0, os.SEEK_END) - _LOG_BYTES))
            return written.read().splitlines()
    except OSError:
        return []


def _time_choices() -> list[Choice]:
    return [
        Choice("10m", _("10 minutes"), _("To see whether it works; rarely good enough.")),
        Choice("1h", _("1 hour"), _("For an organ that is easy to see, on a graphics card.")),
        Choice("overnight", _("Overnight"), _("The best result; on a processor the only good one.")),
    ]

"""The section in which the user chooses a CT and organs, and starts the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from multiorganseg.bundles import Bundle, BundleProblem
from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.errors import MultiOrganSegError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.text import counted
from MultiOrganSegLib import server
from MultiOrganSegLib.dependencies import readable_bundles
from MultiOrganSegLib.engine import shared_engine
from MultiOrganSegLib.panels.controls import Choice, ChoiceBox, MessageArea, reveal
from MultiOrganSegLib.panels.device import device_choices
from MultiOrganSegLib.panels.organs import OrganList
from MultiOrganSegLib.panels.words import eta_text, mean_dice, stage_text, volume_facts
from MultiOrganSegLib.parameters import Parameters


class SegmentPanel:
    """Shows the parameters and a run; what its buttons do is decided by the widget.

    Args:
        ui: The widgets of the .ui file.

    Attributes:
        message: Where errors and warnings are shown.
    """

    def __init__(self, ui: Any) -> None:
        self.message = MessageArea(ui.segmentMessageFrame, ui.segmentMessageLabel)
        self._ui = ui
        self._parameters: Parameters | None = None
        self._bundles: dict[str, Bundle] = {}
        self._organs = OrganList(ui, lambda text: self._write("organs", text))
        self._choices = {
            "model": ChoiceBox(ui.modelSelector, self._choose_model),
            "existing": ChoiceBox(ui.existingSelector, lambda value: self._write("existing", value)),
            "quality": ChoiceBox(ui.qualitySelector, lambda value: self._write("quality", value)),
            "device": ChoiceBox(ui.deviceSelector, self._choose_device),
        }
        self._choices["existing"].fill(_existing_choices())
        self._choices["quality"].fill(_quality_choices())
        self._choices["device"].fill(device_choices())
        ui.copyLogButton.connect("clicked(bool)", self._copy_log)

    def attach(self, parameters: Parameters | None) -> None:
        """Show these parameters and write what the user chooses into them; None for none."""
        self._parameters = parameters
        self.update()

    def update(self) -> None:
        """Show the parameters as they are now."""
        parameters = self._parameters
        if parameters is None:
            return
        for name in ("existing", "quality", "device"):
            self._choices[name].set_value(getattr(parameters, name))
        if self._choices["model"].value != parameters.model:
            self._show_model(parameters.model)
        self._organs.set_text(parameters.organs)
        self._ui.volumeInfoLabel.text = volume_facts(parameters.volume)

    @property
    def organs(self) -> str:
        """Text for `Parameters.organs` that stands for what is ticked."""
        return self._organs.text

    def reload_models(self) -> None:
        """Read the bundles of this computer anew; the run verifies the one that it uses."""
        entries = readable_bundles()
        self._bundles = {}
        choices: list[Choice] = []
        for entry in entries:
            if entry.folder.name in {choice.value for choice in choices}:
                continue
            choices.append(_model_choice(entry))
            if isinstance(entry, Bundle):
                self._bundles[entry.folder.name] = entry
        self._choices["model"].fill(choices)
        self._show_model(self._parameters.model if self._parameters else self._choices["model"].value)

    def show_device(self, text: str) -> None:
        """Show what the automatic choice of the device comes to."""
        self._choices["device"].set_text("auto", _("Automatic: {device}").format(device=text))

    def _choose_device(self, device: str) -> None:
        """Take a device; a server is asked for, and tried, first."""
        self.message.clear()
        before = server.address()
        try:
            name = server.connect() if device == server.DEVICE else ""
        except MultiOrganSegError as error:
            self.message.show_error(error)
            name = ""
        if device == server.DEVICE and not name:
            self.update()
            return
        if device == server.DEVICE:
            self._choices["device"].set_text(device, name)
        else:
            server.disconnect()
        if before != server.address():
            shared_engine().end()
        self._write("device", device)

    def show_missing(self, packages: list[str]) -> None:
        """Offer to install packages; nothing is offered when the list is empty."""
        self._ui.dependencyLabel.text = _("Needed once: {packages}").format(packages=", ".join(packages))
        self._ui.dependencyFrame.visible = bool(packages)

    def ask_existing(self, name: str, by_hand: str = "") -> None:
        """Ask what happens to the segments of the output; the answer comes by its three buttons.

        Args:
            name: Of the output.
            by_hand: Names of the segments that people corrected or drew.
        """
        text = _("“{name}” holds segments already. What shall happen to them?").format(name=name)
        if by_hand:
            text += " " + _("Corrected or drawn by hand: {segments}.").format(segments=by_hand)
        self._ui.questionLabel.text = text
        self._ui.questionFrame.visible = True
        (self._ui.newButton if by_hand else self._ui.replaceButton).setFocus()
        reveal(self._ui.questionFrame)

    def ask_undo(self, name: str, by_hand: str) -> None:
        """Ask whether the run is undone although work by hand is lost; the answer comes by two buttons."""
        self._ui.undoLabel.text = _(
            "“{name}” was corrected or drawn by hand: {segments}. Undoing the run deletes that too."
        ).format(name=name, segments=by_hand)
        self._ui.undoFrame.visible = True
        self._ui.undoDropButton.setFocus()
        reveal(self._ui.undoFrame)

    def drop_question(self) -> None:
        """Take the questions away."""
        self._ui.questionFrame.visible = False
        self._ui.undoFrame.visible = False

    def show_running(self, running: bool) -> None:
        """Turn Apply into Cancel and back; while it runs the choices cannot be changed."""
        ui = self._ui
        ui.applyButton.text = _("&Cancel") if running else _("A&pply")
        ui.applyButton.toolTip = (
            _("Stop the run; the scene stays as it was.")
            if running
            else _("Segment the organs. Slicer stays usable meanwhile; pressing again cancels.")
        )
        ui.progressPane.visible = running
        for control in (
            *(ui.volumeSelector, ui.sampleButton, ui.phantomButton, ui.modelSelector, ui.organsBox),
            *(ui.segmentationSelector, ui.existingSelector, ui.qualitySelector, ui.deviceSelector),
        ):
            control.enabled = not running
        if running:
            ui.progressBar.value = 0
            ui.progressLabel.text = stage_text("")
            ui.logText.clear()

    def show_progress(self, run: Any) -> None:
        """Show how far a `SegmentRun` is, and what it said."""
        self._ui.progressBar.value = round(100 * run.fraction)
        parts = [stage_text(run.stage), eta_text(run.eta_seconds)]
        self._ui.progressLabel.text = " · ".join(part for part in parts if part)
        self.show_log(run.log)

    def show_log(self, log: str) -> None:
        """Show a run's log, scrolled to its end."""
        if log != self._ui.logText.plainText:
            self._ui.logText.setPlainText(log)
            bar = self._ui.logText.verticalScrollBar()
            bar.value = bar.maximum

    def on(self, button: str, action: Callable[[], None]) -> None:
        """Call an action when one of the section's buttons is clicked."""
        getattr(self._ui, button).connect("clicked(bool)", lambda: action())

    def _write(self, name: str, value: str) -> None:
        if self._parameters is not None:
            setattr(self._parameters, name, value)

    def _choose_model(self, name: str) -> None:
        self._show_organs(name)
        self._write("model", name)
        self._write("organs", self._organs.text)

    def _show_model(self, name: str) -> None:
        box = self._choices["model"]
        if not box.set_value(name) and name:
            text, tip = name, _("Its organs are listed when the packages above are installed.")
            if self._bundles:
                text = _("{name} (not installed)").format(name=name)
                tip = _("This model is not installed here. Install it in the section Models.")
            self._ui.modelSelector.addItem(text, name)
            box.set_value(name)
            self._ui.modelSelector.toolTip = tip
        self._show_organs(name)

    def _show_organs(self, model: str) -> None:
        bundle = self._bundles.get(model)
        catalogue = load_catalogue()
        if bundle is None:
            self._organs.fill([], catalogue)
            return
        metadata = bundle.metadata
        self._organs.fill(metadata.labels.keys, with_custom_organs(catalogue, metadata.custom_organs))
        if self._parameters is not None:
            self._organs.set_text(self._parameters.organs)

    def _copy_log(self) -> None:
        self._ui.logText.selectAll()
        self._ui.logText.copy()


def _model_choice(entry: Bundle | BundleProblem) -> Choice:
    name = entry.folder.name
    if isinstance(entry, BundleProblem):
        return Choice(name, _("{name} (damaged)").format(name=name), entry.error.cause)
    metadata = entry.metadata
    text = _("{name} {version}: {organs} in {modality}").format(
        name=name,
        version=metadata.version,
        organs=counted(len(metadata.labels.organs), _("{count} organ"), _("{count} organs")),
        modality=metadata.modality,
    )
    tip = _("{description}. Mean Dice {dice}, licence {licence}.").format(
        description=metadata.description, dice=mean_dice(metadata), licence=metadata.license
    )
    return Choice(name, text, tip)


def _existing_choices() -> list[Choice]:
    return [
        Choice("ask", _("Ask"), _("Ask each time when the output holds segments already.")),
        Choice("replace", _("Replace"), _("Replace what the output holds; “Undo run” gives it back.")),
        Choice("new", _("Make a new segmentation"), _("Leave the output as it is and make another one.")),
    ]


def _quality_choices() -> list[Choice]:
    return [
        Choice("fast", _("Fast"), _("Windows overlap by a tenth: the quickest, for a first look.")),
        Choice("balanced", _("Balanced"), _("Windows overlap by two fifths: right for most cases.")),
        Choice(
            "best",
            _("Best"),
            _("Windows overlap by three fifths: the smoothest, three times slower."),
        ),
    ]

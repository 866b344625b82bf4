"""Adding a network of another program: what it is, what its labels are, and its conversion."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from multiorganseg.bundles import find_bundle, user_models_dir
from multiorganseg.bundles.json_text import read_json_object
from multiorganseg.convert.convert import STORED, Inspection, bundle_name
from multiorganseg.convert.organ_names import NamedOrgan
from multiorganseg.errors import BundleError, MultiOrganSegError, OptionError, OrganError
from multiorganseg.needs import SEGMENT
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.schema import typed
from multiorganseg.text import counted
from MultiOrganSegLib import dependencies
from MultiOrganSegLib.add_organ.case_scene import temporary_folder
from MultiOrganSegLib.add_organ.trainer import Command, CommandQueue
from MultiOrganSegLib.child import start_engine
from MultiOrganSegLib.panels.controls import (
    Choice,
    ChoiceBox,
    MessageArea,
    ask_folder,
    ask_open,
    reveal,
)
from MultiOrganSegLib.panels.pictures import lay_out
from MultiOrganSegLib.panels.words import eta_text, stage_text

CHECK = "check"
_ORIENTATIONS = ("RAS", "LPS", "LAS", "RPS")
_POLL_MILLISECONDS = 150
_ENOUGH_SECONDS = 2.0
_ENOUGH_FRACTION = 0.05


class AddNetworkPane:
    """The frame in which a network becomes a model; what takes long is a child process that a timer asks.

    Args:
        ui: The widgets of the .ui file.
        message: Where errors and what was done are shown.
        added: Called with the name of a model that was added.

    Attributes:
        found: What was chosen; None before it was looked at.
        queue: Of the child processes.
    """

    def __init__(self, ui: Any, message: MessageArea, added: Callable[[str], None]) -> None:
        self.found: Inspection | None = None
        self.queue = CommandQueue(start_engine)
        self._ui, self._message, self._added = ui, message, added
        self._path: Path | None = None
        self._chosen: dict[str, str] = {}
        self._started = 0.0
        self._is_open = False
        self._catalogue = load_catalogue()
        self._organ = ChoiceBox(ui.addNetworkOrganSelector, self._organ_chosen)
        self._orientation = ChoiceBox(ui.addNetworkOrientationSelector, lambda _value: None)
        self._timer = qt.QTimer(ui.addNetworkFrame)
        self._timer.setInterval(_POLL_MILLISECONDS)
        self._timer.connect("timeout()", self._tick)
        ui.addNetworkButton.connect("clicked(bool)", lambda: self._open())
        ui.addNetworkFolderButton.connect("clicked(bool)", lambda: self._choose(_ask_network_folder))
        ui.addNetworkFileButton.connect("clicked(bool)", lambda: self._choose(_ask_network_file))
        ui.addNetworkTable.connect("currentCellChanged(int,int,int,int)", lambda row: self._label_chosen(row))
        ui.addNetworkStartButton.connect("clicked(bool)", lambda: self._guarded(self._start))
        ui.addNetworkCancelButton.connect("clicked(bool)", lambda: self.cancel())
        for edit in (ui.addNetworkNameEdit, ui.addNetworkLicenceEdit):
            edit.connect("textChanged(QString)", lambda _text: self._update())
        lay_out(ui.addNetworkTable)
        self._update()

    def cancel(self) -> None:
        """End what runs; when nothing does, forget what was chosen."""
        if self.queue.busy:
            self.queue.cancel()
            self._message.show_note(_("Cancelled; no model was added."))
        else:
            self.found, self._is_open = None, False
        self._update()

    def close(self) -> None:
        """The module goes away."""
        self._timer.stop()
        self.queue.cancel()

    def _open(self) -> None:
        self._message.clear()
        self._is_open = True
        self._update()
        reveal(self._ui.addNetworkFrame)

    def _choose(self, ask: Callable[[], Path | None]) -> None:
        path = ask()
        if path is not None:
            self._guarded(lambda: self._inspect(path))

    def _inspect(self, path: Path) -> None:
        dependencies.ensure_dependencies(entry=SEGMENT)
        self.found, self._path, self._chosen = None, path, {}
        work = temporary_folder()
        answer = Path(work.name) / "found.json"

        def looked(_warnings: Sequence[str]) -> None:
            self._show(typed(Inspection, read_json_object(answer), answer.name))

        arguments = ["inspect", str(path), "--json", str(answer), *self._licence()]
        self._run(_("Looking at {name}").format(name=path.name), arguments, looked, work.cleanup)

    def _show(self, found: Inspection) -> None:
        self.found = found
        ui = self._ui
        table = ui.addNetworkTable
        blocked = table.blockSignals(True)
        table.clearContents()
        table.rowCount = len(found.organs)
        for row, organ in enumerate(found.organs):
            for column, text in enumerate((organ.name, self._organ_name(organ), self._alike(organ))):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                table.setItem(row, column, item)
        table.setCurrentCell(0, 0)
        table.blockSignals(blocked)
        self._orientation.fill(_orientation_choices(found))
        self._orientation.set_value(found.orientation)
        ui.addNetworkNameEdit.text = found.name
        ui.addNetworkLicenceEdit.placeholderText = found.license
        self._label_chosen(0)

    def _start(self) -> None:
        found, path = self.found, self._path
        if found is None or path is None:
            return
        orientation = self._orientation.value
        if not orientation:
            raise OptionError(
                _("Which way did the images run on which the network was trained?"),
                cause=_(
                    "{program} does not say it, and the same network gives other results on images that "
                    "are turned."
                ).format(program=found.program),
                next_step=_("Choose it above; a labelled case can tell when you do not know."),
            )
        name = bundle_name(str(self._ui.addNetworkNameEdit.text) or found.name)
        arguments = ["convert", str(path), "--name", name, *self._licence()]
        for label, organ in self._chosen.items():
            arguments += ["--label", f"{label}={organ}"]
        if orientation == CHECK:
            case = _ask_case()
            if case is None:
                return
            arguments += ["--check", *map(str, case)]
        else:
            arguments += ["--orientation", orientation]
        if (user_models_dir() / name).exists():
            question = _("A model {name} is there already. Replace it?").format(name=name)
            if not slicer.util.confirmYesNoDisplay(question):
                return
            arguments.append("--replace")

        def converted(_warnings: Sequence[str]) -> None:
            self.found, self._is_open = None, False
            self._added(name)
            self._message.show_note(_told(name))

        self._run(_("Converting {name}").format(name=path.name), arguments, converted)

    def _run(
        self,
        text: str,
        arguments: list[str],
        done: Callable[[Sequence[str]], None],
        finally_: Callable[[], None] = lambda: None,
    ) -> None:
        self._started = time.monotonic()
        self.queue.add(Command(text, ["models", *arguments], done, finally_))
        self._timer.start()
        self._tick()

    def _tick(self) -> None:
        self._guarded(self.queue.poll, clear=False)
        if not self.queue.busy:
            self._timer.stop()
        self._update()

    def _guarded(self, action: Callable[[], object], clear: bool = True) -> None:
        if clear:
            self._message.clear()
        try:
            action()
        except OptionError as error:
            several = self.found is None
            self._message.show_error(error, _("Choose the folder of one of them.") if several else "")
        except OrganError as error:
            self._message.show_error(error, _("Choose another organ for one of them in the table."))
        except MultiOrganSegError as error:
            self._message.show_error(error)
        self._update()

    def _update(self) -> None:
        ui, busy, found = self._ui, self.queue.busy, self.found
        ui.addNetworkFrame.visible = self._is_open
        if not self._is_open:
            return
        ui.addNetworkLabel.text = _intro(found)
        for control in (ui.addNetworkFolderButton, ui.addNetworkFileButton, ui.addNetworkStartButton):
            control.enabled = not busy
        for control in (
            *(ui.addNetworkTable, ui.addNetworkOrganLabel, ui.addNetworkOrganSelector),
            *(ui.addNetworkOrientationLabel, ui.addNetworkOrientationSelector),
            *(ui.addNetworkNameLabel, ui.addNetworkNameEdit, ui.addNetworkStartButton),
        ):
            control.visible = found is not None
        ui.addNetworkProgressLabel.visible = ui.addNetworkProgressBar.visible = busy
        if busy:
            fraction = self.queue.fraction or 0.0
            ui.addNetworkProgressBar.value = round(100 * fraction)
            parts = [self.queue.text, stage_text(self.queue.stage), eta_text(self._eta(fraction))]
            ui.addNetworkProgressLabel.text = " · ".join(part for part in parts if part)

    def _eta(self, fraction: float) -> float | None:
        elapsed = time.monotonic() - self._started
        if elapsed < _ENOUGH_SECONDS or fraction < _ENOUGH_FRACTION:
            return None
        return elapsed * (1 - fraction) / fraction

    def _licence(self) -> list[str]:
        said = str(self._ui.addNetworkLicenceEdit.text).strip()
        return ["--licence", said] if said else []

    def _label_chosen(self, row: int) -> None:
        organ = self._organ_of(row)
        if organ is None:
            return
        others = sorted(self._catalogue.organs.values(), key=lambda entry: entry.name)
        alike = [self._catalogue.get(key) for key in organ.suggestions]
        tip = _("An organ of the catalogue.")
        self._organ.fill(
            [
                Choice("", self._found_name(organ), _("As it was found.")),
                *(Choice(entry.key, entry.name, tip) for entry in alike),
                *(
                    Choice(entry.key, entry.name, tip)
                    for entry in others
                    if entry.key not in organ.suggestions
                ),
            ]
        )
        self._organ.set_value(self._chosen.get(organ.name, ""))

    def _organ_chosen(self, key: str) -> None:
        row = self._ui.addNetworkTable.currentRow()
        organ = self._organ_of(row)
        if organ is None:
            return
        self._chosen.pop(organ.name, None)
        if key:
            self._chosen[organ.name] = key
        self._ui.addNetworkTable.item(row, 1).setText(self._organ_name(organ))

    def _organ_of(self, row: int) -> NamedOrgan | None:
        organs = self.found.organs if self.found is not None else ()
        return organs[row] if 0 <= row < len(organs) else None

    def _organ_name(self, organ: NamedOrgan) -> str:
        key = self._chosen.get(organ.name)
        return self._catalogue.get(key).name if key else self._found_name(organ)

    def _found_name(self, organ: NamedOrgan) -> str:
        if organ.own:
            return _("{key} (an organ of its own)").format(key=organ.key)
        return self._catalogue.get(organ.key).name

    def _alike(self, organ: NamedOrgan) -> str:
        return ", ".join(self._catalogue.get(key).name for key in organ.suggestions)


def _intro(found: Inspection | None) -> str:
    if found is None:
        return _(
            "Choose a network of nnU-Net 2 or TotalSegmentator (the folder with plans.json, or its exported "
            "zip file), a MONAI Bundle, or model.pt of Auto3DSeg. Nothing of it is run."
        )
    images = counted(len(found.channels), _("{count} image of a patient"), _("{count} images of a patient"))
    networks = counted(found.networks, _("{count} network"), _("{count} networks averaged"))
    return _(
        "<b>{description}</b><br>{program}, {modality}, {images}, {networks}. Licence: {licence}."
    ).format(
        description=escape(found.description),
        program=escape(found.program),
        modality=found.modality,
        images=images,
        networks=networks,
        licence=escape(found.license),
    )


def _orientation_choices(found: Inspection) -> list[Choice]:
    tip = _("Where the axes i, j, k of its training images ran to.")
    known = [found.orientation] if found.orientation else []
    named = [*known, *(way for way in _ORIENTATIONS if way not in known)]
    texts = {found.orientation: _("{way} (known)").format(way=found.orientation)}
    texts |= {} if "RAS" in known else {"RAS": _("RAS: NIfTI in closest canonical order")}
    texts |= {} if "LPS" in known else {"LPS": _("LPS: as SimpleITK writes DICOM")}
    first = [] if known else [Choice("", _("Choose…"), _("It is not known."))]
    return [
        *first,
        *(Choice(way, texts.get(way, way), tip) for way in named),
        Choice(CHECK, _("Find it with a labelled case…"), _("Tries all eight, and says how well each fits.")),
        Choice(STORED, _("As each image is stored"), _("What the program itself does.")),
    ]


def _ask_network_folder() -> Path | None:
    return ask_folder(slicer.util.mainWindow(), _("Folder of the network"))


def _ask_network_file() -> Path | None:
    return ask_open(slicer.util.mainWindow(), _("File of the network"), _("Networks (*.zip *.pt)"))


def _ask_case() -> tuple[Path, Path] | None:
    window, kinds = slicer.util.mainWindow(), _("Volumes (*.nii *.nii.gz *.nrrd *.mha)")
    image = ask_open(window, _("Image of the labelled case"), kinds)
    labels = ask_open(window, _("Its labels, in the network's own values"), kinds) if image else None
    return (image, labels) if image is not None and labels is not None else None


def _told(name: str) -> str:
    """Say what was added and, where a case was given, how well it fitted."""
    try:
        metadata = find_bundle(name).metadata
    except BundleError:
        return _("Added {name}.").format(name=name)
    said = _("Added {name}: {organs}. Choose it in the section Segment.").format(
        name=name, organs=counted(len(metadata.labels.organs), _("{count} organ"), _("{count} organs"))
    )
    check = metadata.training.get("check")
    original = metadata.preprocessing.original
    if not isinstance(check, dict) or original is None:
        return said
    dice = check["dice_by_orientation"][original.orientation or STORED]
    return (
        said
        + " "
        + _(
            "Its images run to {way} (mean Dice {dice}); fast and faithful mode agree to a Dice of {fast}."
        ).format(
            way=original.orientation or STORED,
            dice=f"{dice:.2f}",
            fast=f"{check['fast_against_faithful_dice']:.2f}",
        )
    )

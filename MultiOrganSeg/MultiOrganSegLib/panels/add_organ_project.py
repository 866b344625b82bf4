"""First step of adding an organ: the project, the base model, and the organs to add."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import TrainingError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.projects.file import is_project
from multiorganseg.text import counted
from MultiOrganSegLib.add_organ import commands
from MultiOrganSegLib.add_organ.organ_choice import Offer, offers
from MultiOrganSegLib.panels.controls import Choice, ChoiceBox, ask_folder
from MultiOrganSegLib.panels.pictures import swatch
from MultiOrganSegLib.panels.words import mean_dice

_OWN_COLOR = (196, 120, 40)
_MOST_OFFERS = 60


class ProjectPane:
    """Creates and opens projects, and adds organs to them.

    Args:
        ui: The widgets of the section.
        panel: The `AddOrganPanel`.
    """

    def __init__(self, ui: Any, panel: Any) -> None:
        self._ui = ui
        self._panel = panel
        self._session = panel.session
        self._color = _OWN_COLOR
        self._offers: list[Offer] = []
        self._base = ChoiceBox(ui.baseSelector, self._choose_base)
        ui.createProjectButton.connect("clicked(bool)", lambda: self._create())
        ui.openProjectButton.connect("clicked(bool)", lambda: self._open())
        ui.offerSearch.connect("textChanged(QString)", lambda _text: self._offer())
        ui.offerColorButton.connect("clicked(bool)", lambda: self._choose_color())
        ui.offerList.connect("currentRowChanged(int)", lambda _row: self._offer_chosen())
        ui.offerList.connect("itemDoubleClicked(QListWidgetItem*)", lambda _item: self._add_organ())
        ui.addOrganButton.connect("clicked(bool)", lambda: self._add_organ())

    def update(self) -> None:
        """Show the project, the base and the organs to add."""
        project = self._session.project
        self._base.fill([_base_choice(name, bundle) for name, bundle in self._session.bundles.items()])
        self._base.set_value(self._session.base)
        self._ui.organBox.visible = project is not None
        if project is None:
            self._ui.projectLabel.text = _(
                "A project keeps the images and what you annotate in them. Choose the model that shall learn "
                "a further organ, and create a project in an empty folder."
            )
            return
        cases = counted(len(project.cases), _("{count} case"), _("{count} cases"))
        self._ui.projectLabel.text = f"<b>{escape(project.name)}</b>, {cases}"
        self._ui.projectLabel.toolTip = str(project.folder)
        new_organs = [project.catalogue.get(key).name for key in self._session.new_organs]
        self._ui.taughtLabel.text = (
            _("The new model will learn: <b>{organs}</b>.").format(organs=escape(", ".join(new_organs)))
            if new_organs
            else _("Which organ does the base model lack?")
        )
        self._offer()

    def _create(self) -> None:
        folder = ask_folder(slicer.util.mainWindow(), _("Folder of the new project"))
        if folder is not None:
            self._panel.guarded(lambda: self._create_in(folder))

    def _create_in(self, folder: Path) -> None:
        if is_project(folder) or (folder.is_dir() and any(folder.iterdir())):
            raise TrainingError(
                _("{folder} is not empty.").format(folder=folder),
                cause=_("A new project needs a folder of its own."),
                next_step=_("Choose or make an empty folder, or press Open if it holds a project."),
            )
        self._session.ensure_readable()
        metadata = self._session.base_bundle().metadata
        base = self._session.base

        def opened(_warnings: Sequence[str]) -> None:
            self._session.open(folder)
            self._session.choose_base(base)
            self._panel.train.project_changed()
            self._panel.message.show_note(_("The project is there. Now choose the organ to add."))

        arguments = commands.create(folder, folder.name, metadata.modality, base)
        self._panel.run(_("Creating the project"), arguments, opened)

    def _open(self) -> None:
        folder = ask_folder(slicer.util.mainWindow(), _("Open a project"))
        if folder is not None:
            self._panel.guarded(lambda: self._open_in(folder))

    def _open_in(self, folder: Path) -> None:
        self._session.ensure_readable()
        self._session.open(folder)
        self._panel.cases.close()
        self._panel.train.project_changed()
        self._panel.update()

    def _choose_base(self, name: str) -> None:
        self._session.choose_base(name)
        self._panel.update()

    def _offer(self) -> None:
        project = self._session.project
        if project is None:
            return
        words = self._ui.offerSearch.text
        self._offers = offers(words, load_catalogue(), project.keys, self._color)
        if len(self._offers) > _MOST_OFFERS and self._offers[-1].is_own:
            self._offers = [*self._offers[:_MOST_OFFERS], self._offers[-1]]
        box = self._ui.offerList
        blocked = box.blockSignals(True)
        box.clear()
        for offer in self._offers:
            organ = offer.organ
            item = qt.QListWidgetItem(_offer_text(offer))
            item.setIcon(swatch([part / 255 for part in organ.color]))
            item.setToolTip(_("Key: {key}").format(key=organ.key))
            box.addItem(item)
        if words.strip() and self._offers:
            box.setCurrentRow(0)
        box.blockSignals(blocked)
        self._offer_chosen()

    def _offer_chosen(self) -> None:
        offer = self._chosen()
        self._ui.addOrganButton.enabled = offer is not None
        self._ui.offerColorButton.visible = offer is not None and offer.is_own
        self._ui.addOrganButton.text = (
            _("A&dd organ") if offer is None else _("A&dd {organ}").format(organ=offer.organ.name)
        )

    def _chosen(self) -> Offer | None:
        row = self._ui.offerList.currentRow
        return self._offers[row] if 0 <= row < len(self._offers) else None

    def _choose_color(self) -> None:
        color = qt.QColorDialog.getColor(qt.QColor(*self._color), slicer.util.mainWindow())
        if color.isValid():
            row = self._ui.offerList.currentRow
            self._color = (color.red(), color.green(), color.blue())
            self._offer()
            self._ui.offerList.setCurrentRow(row)

    def _add_organ(self) -> None:
        offer, project = self._chosen(), self._session.project
        if offer is None or project is None or self._session.queue.busy:
            return

        def added(_warnings: Sequence[str]) -> None:
            self._ui.offerSearch.text = ""
            self._panel.worklist.choose_organ(offer.organ.key)
            self._panel.message.show_note(
                _("{organ} is added. Go on to step 2 and annotate it in a few cases.").format(
                    organ=offer.organ.name
                )
            )

        arguments = commands.add_organ(project.folder, offer.organ, is_own=offer.is_own)
        self._panel.run(_("Adding {organ}").format(organ=offer.organ.name), arguments, added)


def _base_choice(name: str, bundle: Any) -> Choice:
    metadata = bundle.metadata
    organs = counted(len(metadata.labels.organs), _("{count} organ"), _("{count} organs"))
    text = f"{name} {metadata.version}: {organs}"
    tip = _("{description}. Mean Dice {dice}.").format(
        description=metadata.description, dice=mean_dice(metadata)
    )
    return Choice(name, text, tip)


def _offer_text(offer: Offer) -> str:
    name = offer.organ.name
    return _("New organ “{name}”").format(name=name) if offer.is_own else name

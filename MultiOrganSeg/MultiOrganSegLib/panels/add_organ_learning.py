"""How many more cases an organ needs, in the report on an added organ."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from multiorganseg.projects.project import Project
from MultiOrganSegLib.add_organ import case_scene, commands
from MultiOrganSegLib.add_organ.answers import Learned, read_learned
from MultiOrganSegLib.panels.pictures import show_picture

_PICTURE_HEIGHT = 260


class LearningPane:
    """The learning curve: a sentence and a picture.

    Args:
        ui: The widgets of the section.
        panel: The `AddOrganPanel`.
    """

    def __init__(self, ui: Any, panel: Any) -> None:
        self._ui = ui
        self._panel = panel
        self._session = panel.session
        ui.learningButton.connect("clicked(bool)", lambda: panel.guarded(self._ask))

    def clear(self) -> None:
        """Show nothing."""
        self._ui.learningLabel.visible = False
        self._ui.learningPicture.visible = False

    def _ask(self) -> None:
        folder = case_scene.temporary_folder()
        answer = Path(folder.name) / "learned.json"
        arguments = commands.learning_curve(self._session.project.folder, answer)
        self._panel.run(
            _("Estimating"), arguments, lambda _warnings: self._show(read_learned(answer)), folder.cleanup
        )
        self._panel.update()

    def _show(self, found: list[Learned]) -> None:
        project: Project = self._session.project
        self._ui.learningLabel.text = "<br>".join(_words(entry, project) for entry in found)
        self._ui.learningLabel.visible = True
        pictures = [entry.picture for entry in found if entry.picture is not None]
        within = self._ui.projectStepButton.parentWidget()
        show_picture(self._ui.learningPicture, pictures[0] if pictures else None, within, _PICTURE_HEIGHT)


def _words(entry: Learned, project: Project) -> str:
    known = project.catalogue.organs.get(entry.organ)
    measured = "; ".join(
        _("{cases}: {dice:.3f}").format(cases=cases, dice=dice) for cases, dice in entry.points
    )
    said = entry.sentence or _("An estimate takes trainings with three different numbers of annotated cases.")
    return _("<b>{organ}</b>, Dice by annotated cases: {measured}. {said}").format(
        organ=escape(known.name if known else entry.organ), measured=measured, said=escape(said)
    )

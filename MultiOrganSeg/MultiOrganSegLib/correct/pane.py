"""The options of the effect "Correct organ"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from multiorganseg.errors import MultiOrganSegError
from multiorganseg.resident.requests import NO_MODEL
from MultiOrganSegLib.correct.pointer import help_text
from MultiOrganSegLib.panels.controls import Choice, ChoiceBox


class CorrectPane:
    """What is told and chosen beside the views.

    Attributes:
        widget: All of it, for `addOptionsWidget`.
        model: The choice of the model whose features are looked at.
    """

    def __init__(self, model_chosen: Callable[[str], None]) -> None:
        self.widget = qt.QWidget()
        layout = qt.QFormLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.hint = qt.QLabel(_("Left: add · Ctrl or right: remove · drag: scribble · L: lasso"))
        self.hint.wordWrap = True
        self.widget.toolTip = help_text()
        self.status = qt.QLabel("")
        self.status.wordWrap = True
        self.bar = qt.QProgressBar()
        self.bar.setRange(0, 100)
        self.bar.visible = False
        self.lock_others = qt.QCheckBox(_("Keep all other organs"))
        self.lock_others.toolTip = _("Answers take no voxel from any other organ.")
        self.lock_this = qt.QCheckBox(_("Lock this organ"))
        self.lock_this.toolTip = _("Corrections of others take no voxel from it. Kept with the segment.")
        selector = qt.QComboBox()
        self.model = ChoiceBox(selector, model_chosen)
        self.next_button = qt.QPushButton(_("Next organ"))
        self.next_button.toolTip = _("Correct the next organ, those that deserve a look first.")
        self.back_button = qt.QPushButton(_("Back to results"))
        buttons = qt.QHBoxLayout()
        for button in (self.next_button, self.back_button):
            buttons.addWidget(button)
        for row in (self.hint, self.bar, self.status, self.lock_others, self.lock_this):
            layout.addRow(row)
        layout.addRow(_("Looks at:"), selector)
        layout.addRow(buttons)

    def show_models(self, chosen: str) -> None:
        """Offer the models of this computer."""
        from multiorganseg.bundles import Bundle, list_bundles

        names = {entry.folder.name: entry for entry in list_bundles() if isinstance(entry, Bundle)}
        tip = _("What this network sees in the image helps. It runs once for it, unless it has just run.")
        self.model.fill(
            [
                *(Choice(name, name, tip) for name in names),
                Choice(
                    NO_MODEL,
                    _("brightness alone"),
                    _("For kinds of images that no network knows."),
                ),
            ]
        )
        self.model.set_value(chosen)

    def show(self, correction: Any, error: MultiOrganSegError | None) -> None:
        """Tell how it stands."""
        stage = correction.stage if correction is not None else ""
        self.bar.visible = bool(stage)
        self.bar.value = round(100 * (correction.fraction if correction is not None else 0.0))
        self.bar.format = f"{stage} %p %" if stage else "%p %"
        if error is not None:
            text = " ".join(part for part in (error.problem, error.cause, error.next_step) if part)
            self.status.text = f"⚠ {text}"
        elif correction is None:
            self.status.text = ""
        elif stage:
            self.status.text = _("The image is looked at once; clicks wait meanwhile.")
        elif correction.busy:
            self.status.text = _("Answering …")
        else:
            self.status.text = correction.note

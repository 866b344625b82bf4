"""The Segment Editor effect "Correct organ". It passes calls on: instances keep this class over a reload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _

NAME = "Correct organ"
_ICON = Path(__file__).resolve().parents[1] / "Resources" / "Icons" / "CorrectOrgan.png"


class CorrectOrganEffect(AbstractScriptedSegmentEditorEffect):
    """Clicks, scribbles and lassos that correct an organ; see `MultiOrganSegLib.correct.work.CorrectWork`.

    Args:
        scriptedEffect: The application's side of the effect.
    """

    def __init__(self, scriptedEffect: Any) -> None:
        scriptedEffect.name = NAME
        scriptedEffect.title = _("Correct organ")
        scriptedEffect.perSegment = True
        scriptedEffect.requireSegments = True
        super().__init__(scriptedEffect)
        self._made: Any = None

    @property
    def work(self) -> Any:
        """What does the work, made when it is needed first."""
        if self._made is None:
            from MultiOrganSegLib.correct.work import CorrectWork

            self._made = CorrectWork(self.scriptedEffect)
        return self._made

    def clone(self) -> Any:
        """Make an effect of this kind for another editor."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        cloned = effects.qSlicerSegmentEditorScriptedEffect(None)
        cloned.setPythonSource(__file__.replace("\\", "/"))
        return cloned

    def icon(self) -> Any:
        """The effect's button."""
        return qt.QIcon(str(_ICON))

    def helpText(self) -> str:
        """What the editor shows above the options."""
        from MultiOrganSegLib.correct.pointer import help_text

        return help_text().replace("\n", "<br>")

    def setupOptionsFrame(self) -> None:
        """Build the options."""
        self.work.make_options()

    def setMRMLDefaults(self) -> None:
        """There are none."""

    def updateGUIFromMRML(self) -> None:
        """The editor's parameters changed."""
        self.work.update()

    def updateMRMLFromGUI(self) -> None:
        """Options are kept where they are chosen."""

    def activate(self) -> None:
        """The effect is taken in hand."""
        self.work.activate()

    def deactivate(self) -> None:
        """The effect is laid aside."""
        self.work.deactivate()

    def cleanup(self) -> None:
        """The editor goes away."""
        if self._made is not None:
            self._made.cleanup()
            self._made = None

    def createCursor(self, _widget: Any) -> Any:
        """The mouse pointer that tells the mode."""
        return self.work.cursor()

    def processInteractionEvents(self, callerInteractor: Any, eventId: int, viewWidget: Any) -> bool:
        """An event of a view; gives whether nobody else shall get it."""
        return bool(self.work.handle(callerInteractor, eventId, viewWidget))

    def interactionNodeModified(self, _interactionNode: Any) -> None:
        """Placing a markup does not lay the effect aside."""


def register() -> None:
    """Make the effect known to all Segment Editors; a second time does nothing."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    effect.setPythonSource(__file__.replace("\\", "/"))
    effect.self().register()

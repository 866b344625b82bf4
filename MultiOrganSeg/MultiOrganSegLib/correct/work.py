"""What the effect "Correct organ" does; the effect itself only passes calls on to it."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import MultiOrganSegError, VolumeError
from MultiOrganSegLib import dependencies, result, server
from MultiOrganSegLib.correct import segments
from MultiOrganSegLib.correct.correction import Correction
from MultiOrganSegLib.correct.editors import EffectEditor
from MultiOrganSegLib.correct.pane import CorrectPane
from MultiOrganSegLib.correct.pointer import Pointer
from MultiOrganSegLib.engine import shared_engine
from MultiOrganSegLib.failure import missing_dependency
from MultiOrganSegLib.panels.segment_editor import jump_to

_POLL_MILLISECONDS = 20
_IDLE_MILLISECONDS = 800
_LOCK_OTHERS = "MultiOrganSeg.LockOthers"
_DEFAULT_MODEL = "abdomen-ct"


class CorrectWork:
    """Prompts in, answers written; one correction for the segmentation and volume of its editor.

    Args:
        effect: The qSlicerSegmentEditorScriptedEffect.

    Attributes:
        pane: The options; None before the editor asks for them.
        correction: The correction under way; None before the first prompt.
        error: What hindered the last prompt.
    """

    def __init__(self, effect: Any) -> None:
        self.pane: CorrectPane | None = None
        self.correction: Correction | None = None
        self.error: MultiOrganSegError | None = None
        self._effect = effect
        self._engine = shared_engine()
        self._pointer = Pointer(effect, self.say)
        self._shown: tuple[Any, ...] = ()
        self._model = ""
        self._order: list[str] = []
        self._timer = qt.QTimer()
        self._timer.setInterval(_POLL_MILLISECONDS)
        self._timer.connect("timeout()", self._tick)
        self._idle = qt.QTimer()
        self._idle.setSingleShot(True)
        self._idle.setInterval(_IDLE_MILLISECONDS)
        self._idle.connect("timeout()", self._make_surfaces)

    def make_options(self) -> None:
        """Build the options."""
        self.pane = CorrectPane(self._choose_model)
        self.pane.lock_others.connect("toggled(bool)", self._lock_others)
        self.pane.lock_this.connect("toggled(bool)", self._lock_this)
        self.pane.next_button.connect("clicked(bool)", lambda: self.next_organ())
        self.pane.back_button.connect("clicked(bool)", lambda: self.back())
        self._effect.addOptionsWidget(self.pane.widget)

    def activate(self) -> None:
        """The effect is taken in hand."""
        self._order = []
        self._pointer.start()
        self.update()

    def deactivate(self) -> None:
        """The effect is laid aside; an answer that is awaited is not written any more."""
        self._pointer.stop()
        self._timer.stop()
        if self.correction is not None:
            self.correction.pause()
        self._make_surfaces()

    def cleanup(self) -> None:
        """The editor goes away."""
        self._pointer.stop()
        for timer in (self._timer, self._idle):
            timer.stop()
        if self.pane is not None:
            self.pane.lock_others.disconnect("toggled(bool)", self._lock_others)
            self.pane.lock_this.disconnect("toggled(bool)", self._lock_this)
        self._let_go()

    def handle(self, interactor: Any, event: int, view: Any) -> bool:
        """Take an event of a view; see `Pointer`."""
        return self._pointer.handle(interactor, event, view)

    def cursor(self) -> Any:
        """See `Pointer`."""
        return self._pointer.cursor()

    def update(self) -> None:
        """Show options and state as they are now."""
        if self.pane is None:
            return
        node, segment = self._node, self._segment
        shown = (node.GetID() if node else "", segment)
        if shown[:1] != self._shown[:1]:
            self._model = (segments.model_of(node) if node is not None else "") or _DEFAULT_MODEL
            self.pane.show_models(self._model)
            self._order = []
        self._shown = shown
        for box, checked in (
            (self.pane.lock_others, self._locks_others),
            (self.pane.lock_this, bool(node and segment and segments.is_locked(node, segment))),
        ):
            blocked = box.blockSignals(True)
            box.checked = checked
            box.blockSignals(blocked)
        self._tell()

    def say(self, prompt: Any) -> None:
        """Answer a prompt about the selected segment, after those that wait."""
        self.error = None
        try:
            correction = self._current()
            correction.lock_others = self._locks_others
            correction.say(self._segment, prompt)
        except MultiOrganSegError as error:
            self.error = error
        self._timer.start()
        self._tell()

    def next_organ(self) -> None:
        """Select the next segment, those that deserve a look first, and centre the views on it."""
        node = self._node
        if node is None or not node.GetSegmentation().GetNumberOfSegments():
            return
        ids = list(node.GetSegmentation().GetSegmentIDs())
        if set(self._order) != set(ids):
            rows = [row.segment_id for row in result.organ_rows(node)]
            self._order = [*rows, *(each for each in ids if each not in rows)]
        number = self._order.index(self._segment) if self._segment in self._order else -1
        following = self._order[(number + 1) % len(self._order)]
        self._effect.parameterSetNode().SetSelectedSegmentID(following)
        jump_to(node, following)
        self.update()

    def back(self) -> None:
        """Show the results."""
        slicer.util.selectModule("MultiOrganSeg")

    @property
    def _node(self) -> Any:
        parameters = self._effect.parameterSetNode()
        return parameters.GetSegmentationNode() if parameters is not None else None

    @property
    def _segment(self) -> str:
        parameters = self._effect.parameterSetNode()
        return (parameters.GetSelectedSegmentID() or "") if parameters is not None else ""

    @property
    def _locks_others(self) -> bool:
        """Kept with the editor's other choices."""
        parameters = self._effect.parameterSetNode()
        return parameters is not None and parameters.GetAttribute(_LOCK_OTHERS) == "1"

    def _current(self) -> Correction:
        """The correction of what the editor shows now."""
        node, volume = self._node, self._effect.parameterSetNode().GetSourceVolumeNode()
        if node is None or volume is None or not self._segment:
            raise VolumeError(
                _("There is nothing to correct."),
                next_step=_("Choose a segmentation, its source volume and a segment above."),
            )
        if missing := dependencies.missing_packages(server.needed()):
            raise missing_dependency(missing)
        known = self.correction
        if (
            known is None
            or known.node is not node
            or known.volume is not volume
            or known.model != self._model
        ):
            self._let_go()
            self.correction = Correction(self._engine, node, volume, EffectEditor(self._effect), self._model)
        assert self.correction is not None
        return self.correction

    def _let_go(self) -> None:
        if self.correction is not None:
            self.correction.close()
            self.correction = None

    def _tick(self) -> None:
        correction = self.correction
        if correction is None:
            self._timer.stop()
            return
        answered = correction.answered
        correction.poll()
        if correction.answered != answered:
            self._idle.start()
        if not correction.busy:
            self._timer.stop()
        self._tell()

    def _make_surfaces(self) -> None:
        """Let 3D follow; not while an answer is awaited, which would make it stale again."""
        node = self._node
        if node is None or not slicer.mrmlScene.IsNodePresent(node):
            return
        if self.correction is not None and self.correction.busy:
            self._idle.start()
            return
        segments.make_surfaces(node)

    def _tell(self) -> None:
        if self.pane is not None:
            failed = self.correction.error if self.correction is not None else None
            self.pane.show(self.correction, self.error or failed)

    def _choose_model(self, name: str) -> None:
        self._model = name

    def _lock_others(self, checked: bool) -> None:
        self._effect.parameterSetNode().SetAttribute(_LOCK_OTHERS, "1" if checked else None)

    def _lock_this(self, checked: bool) -> None:
        if self._node is not None and self._segment:
            segments.set_locked(self._node, self._segment, checked)

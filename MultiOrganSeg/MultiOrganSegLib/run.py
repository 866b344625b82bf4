"""One segmentation under way, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import Cancelled, MultiOrganSegError
from multiorganseg.events import EventKind
from multiorganseg.progress import Stage
from MultiOrganSegLib.engine import Answer, Engine, remove_file

WEIGHTS = {
    Stage.READING: 0.02,
    Stage.RESAMPLING: 0.04,
    Stage.LOADING: 0.06,
    Stage.SEGMENTING: 0.78,
    Stage.CLEANING: 0.02,
    Stage.RESTORING: 0.02,
    Stage.MEASURING: 0.03,
    Stage.WRITING: 0.03,
}
"""Share of the whole time by stage of the engine, in order; the network takes most of it."""

_LONGEST = Stage.SEGMENTING
_ENOUGH_SECONDS = 1.0
_ENOUGH_FRACTION = 0.02


class StageProgress:
    """How far a segmentation is over all stages.

    Args:
        clock: Seconds that never run back; replaced in tests.

    Attributes:
        stage: The last stage that the engine reported; empty before the first.
        fraction: Of the whole, in [0, 1]; never falls.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.stage = ""
        self.fraction = 0.0
        self._clock = clock
        self._began: tuple[float, float] | None = None
        self._left: tuple[float, float] | None = None

    def update(self, stage: str, fraction: float) -> None:
        """Take a report of the engine; a stage without a weight moves nothing."""
        self.stage = stage
        if stage not in WEIGHTS:
            return
        names, known = list(WEIGHTS), Stage(stage)
        before = sum(WEIGHTS[name] for name in names[: names.index(known)])
        self.fraction = max(self.fraction, before + WEIGHTS[known] * min(max(fraction, 0.0), 1.0))
        now = self._clock()
        if self._began is None:
            self._began = (now, self.fraction) if stage == _LONGEST else None
            return
        seconds, done = now - self._began[0], self.fraction - self._began[1]
        if seconds >= _ENOUGH_SECONDS and done >= _ENOUGH_FRACTION:
            self._left = (now, (1 - self.fraction) * seconds / done)

    def complete(self) -> None:
        """All is done."""
        self.fraction = 1.0
        self._left = (self._clock(), 0.0)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds left by the pace of the network; None until it is known."""
        if self._left is None:
            return None
        since, left = self._left
        return max(left - (self._clock() - since), 0.0)


RUNNING, FINISHED, FAILED, CANCELLED = "running", "finished", "failed", "cancelled"

_POLL_SECONDS = 0.05


class SegmentRun:
    """A segmentation by the engine's process; `poll` brings its result into the scene.

    Until then the scene is not touched, so that after a failure or `cancel` it is as before.

    Args:
        volume_node: What is segmented.
        target: The node that the result will replace; None for a new one.
        engine: Where the run was asked for.
        answer: What it brings.
        output: Name of the result's file in the engine's folder.
        place: Puts the result file into the scene and gives the node.

    Attributes:
        volume_node: What is segmented.
        segmentation_node: The result; None until finished.
        state: "running", "finished", "failed" or "cancelled".
        error: Why it failed.
        messages: Warnings of the engine, and why the run cancelled itself.
    """

    def __init__(
        self,
        volume_node: slicer.vtkMRMLScalarVolumeNode,
        target: slicer.vtkMRMLSegmentationNode | None,
        engine: Engine,
        answer: Answer,
        output: str,
        place: Callable[[Path], slicer.vtkMRMLSegmentationNode],
    ) -> None:
        self.volume_node = volume_node
        self.segmentation_node: slicer.vtkMRMLSegmentationNode | None = None
        self.state = RUNNING
        self.error: MultiOrganSegError | None = None
        self.messages: list[str] = []
        self._needed = {_("The volume"): volume_node} | ({_("The segmentation"): target} if target else {})
        self._engine = engine
        self._answer = answer
        self._output = output
        self._place = place
        self._progress = StageProgress()
        self._busy = False

    @property
    def stage(self) -> str:
        """What the engine does now, in its words; empty while the process starts."""
        return self._progress.stage

    @property
    def fraction(self) -> float:
        """How much is done over all stages, in [0, 1]; it never falls."""
        return self._progress.fraction

    @property
    def eta_seconds(self) -> float | None:
        """Seconds left; None until the network's pace is known."""
        return self._progress.eta_seconds if self.state == RUNNING else None

    @property
    def log(self) -> str:
        """What the process wrote beside its progress."""
        return self._engine.log

    def poll(self) -> None:
        """Take what is new and, at the end, bring in the result; to be called from a timer, never blocks."""
        if self.state != RUNNING or self._busy:
            return
        self._busy = True
        try:
            self._advance()
        finally:
            self._busy = False

    def cancel(self) -> None:
        """Stop the run: the process ends unless others need it. A run that has ended stays as it is."""
        if self.state == RUNNING:
            self.state = CANCELLED
            self._answer.cancel()

    def wait(self) -> slicer.vtkMRMLSegmentationNode:
        """Wait for the result while the application stays alive.

        Raises:
            Cancelled: The run was cancelled, or cancelled itself.
            MultiOrganSegError: It failed.
        """
        try:
            while self.state == RUNNING:
                self.poll()
                slicer.app.processEvents()
                time.sleep(_POLL_SECONDS)
        finally:
            self.cancel()
        if self.error:
            raise self.error
        if self.segmentation_node is None:
            raise Cancelled
        return self.segmentation_node

    def _advance(self) -> None:
        if slicer.mrmlScene.IsBatchProcessing():
            return
        for what, node in self._needed.items():
            if not slicer.mrmlScene.IsNodePresent(node):
                self.messages.append(_("{what} was removed from the scene.").format(what=what))
                self.cancel()
                return
        for event in self._answer.poll():
            if event["event"] == EventKind.PROGRESS:
                self._progress.update(str(event["stage"]), float(event["fraction"]))
            elif event["event"] == EventKind.WARNING:
                self.messages.append(str(event["message"]))
        if self._answer.ended:
            self._conclude()

    def _conclude(self) -> None:
        if self._answer.cancelled:
            self.state = CANCELLED
            return
        try:
            if self._answer.error is not None:
                raise self._answer.error
            result = self._engine.folder / self._output
            try:
                self.segmentation_node = self._place(result)
            finally:
                remove_file(result)
        except MultiOrganSegError as error:
            self.error = error
        except Exception as error:
            self.error = MultiOrganSegError(
                _("The result cannot be brought into the scene."),
                cause=f"{type(error).__name__}: {error}",
                next_step=_("Try again; if it happens again, report it with the log."),
            )
        self.state = FAILED if self.error else FINISHED
        if self.state == FINISHED:
            self._progress.complete()

"""One segmentation under way."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import Cancelled, MultiOrganSegError
from multiorganseg.events import EventKind
from MultiOrganSegLib.child import INPUT, RESULT
from MultiOrganSegLib.failure import reported_failure, silent_failure
from MultiOrganSegLib.job import Job
from MultiOrganSegLib.stages import StageProgress

RUNNING, FINISHED, FAILED, CANCELLED = "running", "finished", "failed", "cancelled"

_POLL_SECONDS = 0.05


class SegmentRun:
    """A segmentation in a child process; `poll` brings its result into the scene.

    Until then the scene is not touched, so that after a failure or `cancel` it is as before.

    Args:
        volume_node: What is segmented.
        target: The node that the result will replace; None for a new one.
        job: Started already.
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
        job: Job,
        place: Callable[[Path], slicer.vtkMRMLSegmentationNode],
    ) -> None:
        self.volume_node = volume_node
        self.segmentation_node: slicer.vtkMRMLSegmentationNode | None = None
        self.state = RUNNING
        self.error: MultiOrganSegError | None = None
        self.messages: list[str] = []
        self._needed = {_("The volume"): volume_node} | ({_("The segmentation"): target} if target else {})
        self._job = job
        self._place = place
        self._progress = StageProgress()
        self._failure: dict[str, str] | None = None
        self._has_finished = False
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
        return self._job.log

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
        """End the process tree and remove its folder; a run that has ended stays as it is."""
        if self.state == RUNNING:
            self.state = CANCELLED
            self._job.cancel()

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
        running = self._job.running
        for event in self._job.poll():
            self._take(event)
        if not running:
            self._conclude()

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == EventKind.PROGRESS:
            self._progress.update(str(event["stage"]), float(event["fraction"]))
        elif event["event"] == EventKind.WARNING:
            self.messages.append(self._named(event["message"]))
        elif event["event"] == EventKind.FAILED:
            self._failure = {key: self._named(text) for key, text in event.items()}
        elif event["event"] == EventKind.FINISHED:
            self._has_finished = True

    def _named(self, text: object) -> str:
        """Say the volume's name where the engine says the file's."""
        return str(text).replace(INPUT, self.volume_node.GetName())

    def _conclude(self) -> None:
        code, result = self._job.exit_code, self._job.folder / RESULT
        try:
            if self._failure:
                self.error = reported_failure(self._failure)
            elif not (self._has_finished and result.is_file()):
                self.error = silent_failure(code, self._job.log)
            else:
                self.segmentation_node = self._place(result)
        except MultiOrganSegError as error:
            self.error = error
        except Exception as error:
            self.error = MultiOrganSegError(
                _("The result cannot be brought into the scene."),
                cause=f"{type(error).__name__}: {error}",
                next_step=_("Try again; if it happens again, report it with the log."),
            )
        finally:
            self._job.close()
        self.state = FAILED if self.error else FINISHED
        if self.state == FINISHED:
            self._progress.complete()

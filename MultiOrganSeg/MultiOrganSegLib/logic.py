"""What scripts call: segment a volume of the scene, in the background or waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import OptionError
from multiorganseg.resident.requests import SegmentRequest
from MultiOrganSegLib import server
from MultiOrganSegLib.dependencies import missing_packages
from MultiOrganSegLib.engine import Engine, shared_engine
from MultiOrganSegLib.failure import missing_dependency
from MultiOrganSegLib.mrml import check_volume_node
from MultiOrganSegLib.placing import UndoHistory, place_result
from MultiOrganSegLib.run import RUNNING, SegmentRun


class Logic:
    """Segments volumes of the scene; usable without a window.

    It needs no constructor, so that it stands beside Slicer's own base class of logics.

    Example:
        >>> logic = slicer.util.getModuleLogic("MultiOrganSeg")
        >>> segmentation = logic.process(volume, organs=["liver", "spleen"])
    """

    @cached_property
    def engine(self) -> Engine:
        """The process that runs and corrections share; it is started when one of them needs it."""
        return shared_engine()

    @cached_property
    def _history(self) -> UndoHistory:
        return UndoHistory(slicer.mrmlScene)

    @cached_property
    def _runs(self) -> list[SegmentRun]:
        return []

    def process(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
        *,
        model: str = "abdomen-ct",
        organs: Sequence[str] = (),
        quality: str = "balanced",
        device: str = "auto",
        wait: bool = True,
    ) -> slicer.vtkMRMLSegmentationNode | SegmentRun:
        """Segment a volume.

        Args:
            volumeNode: A CT or what else the model segments; it may stand under a linear transform.
            segmentationNode: Gets the result in place of its segments; a new node when None.
            model: Name of a bundle, or a path to one.
            organs: Organ keys such as "liver"; all of the model when empty.
            quality: "fast", "balanced" or "best".
            device: "auto", "cpu", "cuda", "mps", or "server" once one is connected.
            wait: Whether to wait for the result; the application stays alive meanwhile.

        Returns:
            The segmentation node, or with `wait=False` the run; someone must then call its `poll`.

        Raises:
            Cancelled: The run was cancelled, the scene closed or a node of it removed.
            MultiOrganSegError: It failed; the error tells the cause and the next step.
        """
        run = self.start(
            volumeNode, segmentationNode, model=model, organs=organs, quality=quality, device=device
        )
        return run.wait() if wait else run

    def start(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
        *,
        model: str = "abdomen-ct",
        organs: Sequence[str] = (),
        quality: str = "balanced",
        device: str = "auto",
    ) -> SegmentRun:
        """Start a segmentation in the background; see `process`.

        Raises:
            DependencyError: A Python package is missing; nothing is installed here.
            OptionError: The segmentation node is not in the scene.
            ResourceError: The temporary folder cannot take the volume, or the process cannot be started.
            VolumeError: The volume cannot be segmented.
        """
        if segmentationNode is not None and not slicer.mrmlScene.IsNodePresent(segmentationNode):
            raise OptionError(
                _("The segmentation to replace is not in the scene."),
                next_step=_("Choose another one, or none to get a new one."),
            )
        check_volume_node(volumeNode)
        server.require(device)
        if missing := missing_packages(server.needed()):
            raise missing_dependency(missing)
        engine = self.engine
        file, output = engine.write_volume(volumeNode), engine.new_name("result", ".seg.nrrd")
        answer = engine.ask(
            SegmentRequest(file, output, model, tuple(organs), quality, device, keep_maps=True)
        )

        def place(path: Path) -> slicer.vtkMRMLSegmentationNode:
            node, before = place_result(path, volumeNode, segmentationNode)
            self._history.remember(node, before)
            return node

        run = SegmentRun(volumeNode, segmentationNode, engine, answer, output, place)
        self._runs[:] = [each for each in self._runs if each.state == RUNNING] + [run]
        return run

    def correct(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        segmentID: str,
        *,
        add: Sequence[Sequence[float]] = (),
        remove: Sequence[Sequence[float]] = (),
        volumeNode: slicer.vtkMRMLScalarVolumeNode | None = None,
        lockOthers: bool = False,
        model: str = "",
    ) -> None:
        """Correct a segment by clicks, one after the other, and wait; the application stays alive meanwhile.

        Args:
            segmentationNode: The segmentation, on the volume's grid.
            segmentID: Its segment; an empty one is drawn from nothing.
            add: Points in RAS, mm, that belong to it.
            remove: Points that do not; they come after the others.
            volumeNode: What is looked at; the reference volume of the segmentation when None.
            lockOthers: Whether all other segments keep every voxel.
            model: Whose features are looked at: a bundle's name, or "none" for intensity alone; that which
                drew the segments when empty.

        Raises:
            DependencyError: A Python package is missing.
            OptionError: There is no such segment.
            OrganError: The segment is locked, or a point lies in one that is.
            VolumeError: Nodes are missing, or do not fit, or a point lies outside the volume.

        Example:
            >>> logic.correct(segmentation, "liver", add=[(52.0, 31.5, -120.0)])
        """
        from MultiOrganSegLib.correct.correction import Correction
        from MultiOrganSegLib.correct.editors import ScriptEditor
        from MultiOrganSegLib.correct.segments import clicks_at

        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        volume = volumeNode or segmentationNode.GetNodeReference(role)
        check_volume_node(volume)
        if missing := missing_packages(server.needed()):
            raise missing_dependency(missing)
        editor = ScriptEditor(segmentationNode, volume)
        correction = Correction(self.engine, segmentationNode, volume, editor, model)
        correction.lock_others = lockOthers
        try:
            for points, positive in ((add, True), (remove, False)):
                for click in clicks_at(volume, points, positive):
                    correction.say(segmentID, click)
                    correction.wait()
        finally:
            correction.close()
            editor.close()

    def canUndo(self, segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> bool:
        """Whether `undo` can give something back to this node."""
        return self._history.can_undo(segmentationNode)

    def undo(
        self, segmentationNode: slicer.vtkMRMLSegmentationNode | None, *, discardCorrections: bool = False
    ) -> None:
        """Return back what the node held before the last run, or remove it when that run made it.

        Args:
            segmentationNode: The node.
            discardCorrections: Whether what people corrected or drew in it since may be lost.

        Raises:
            OptionError: There is nothing to undo, or something that people drew would be lost.
        """
        self._history.undo(segmentationNode, discard=discardCorrections)

    def close(self) -> None:
        """End the engine's process and what runs in it, and forget what could be undone.

        For when the module goes away.
        """
        for run in self._runs:
            run.cancel()
        self._runs.clear()
        self.engine.end()
        self._history.close()

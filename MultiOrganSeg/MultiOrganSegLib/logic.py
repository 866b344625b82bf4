"""What scripts call: segment a volume of the scene, in the background or waiting for it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import OptionError, ResourceError
from multiorganseg.needs import SEGMENT
from MultiOrganSegLib.child import INPUT, child_environment, segment_command
from MultiOrganSegLib.dependencies import missing_packages
from MultiOrganSegLib.failure import cannot_start, missing_dependency, no_room
from MultiOrganSegLib.folder import make_private_folder, remove_folder
from MultiOrganSegLib.job import Job
from MultiOrganSegLib.mrml import check_volume_node, volume_from_node
from MultiOrganSegLib.placing import UndoHistory, place_result
from MultiOrganSegLib.run import RUNNING, SegmentRun

_SPARE_BYTES = 64 * 2**20


class Logic:
    """Segments volumes of the scene; usable without a window.

    It needs no constructor, so that it stands beside Slicer's own base class of logics.

    Example:
        >>> logic = slicer.util.getModuleLogic("MultiOrganSeg")
        >>> segmentation = logic.process(volume, organs=["liver", "spleen"])
    """

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
            device: "auto", "cpu", "cuda" or "mps".
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
        if missing := missing_packages(SEGMENT):
            raise missing_dependency(missing)
        folder = self._write_input(volumeNode)
        job = Job(segment_command(model, organs, quality, device), folder, child_environment())
        try:
            job.start()
        except OSError as error:
            raise cannot_start(error) from error

        def place(path: Path) -> slicer.vtkMRMLSegmentationNode:
            node, before = place_result(path, volumeNode, segmentationNode)
            self._history.remember(node, before)
            return node

        run = SegmentRun(volumeNode, segmentationNode, job, place)
        self._runs[:] = [each for each in self._runs if each.state == RUNNING] + [run]
        return run

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
        """Cancel what runs and forget what could be undone; for when the module goes away."""
        for run in self._runs:
            run.cancel()
        self._runs.clear()
        self._history.close()

    def _write_input(self, node: slicer.vtkMRMLScalarVolumeNode) -> Path:
        """Write the volume raw into a private folder; the folder is gone if that fails."""
        volume = volume_from_node(node)
        from multiorganseg.volumes import write_volume

        temporary = Path(slicer.app.temporaryPath)
        try:
            folder = make_private_folder(temporary)
        except OSError as error:
            raise no_room(temporary, str(error)) from error
        try:
            free = shutil.disk_usage(folder).free
            if volume.voxels.nbytes + _SPARE_BYTES > free:
                raise OSError(_megabytes(volume.voxels.nbytes, free))
            write_volume(volume, folder / INPUT, compress=False)
        except (ResourceError, OSError) as error:
            remove_folder(folder)
            raise no_room(temporary, getattr(error, "cause", "") or str(error)) from error
        except BaseException:
            remove_folder(folder)
            raise
        return folder


def _megabytes(needed: int, free: int) -> str:
    return _("It takes {needed} MB, and {free} MB are free.").format(
        needed=round(needed / 1e6), free=round(free / 1e6)
    )

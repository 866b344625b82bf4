"""One step back for each segmentation node."""

from __future__ import annotations

import weakref
from typing import Any

import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import OptionError
from MultiOrganSegLib.corrections import drawn_by_people, names_of
from MultiOrganSegLib.former import Former, restore
from MultiOrganSegLib.removal import remove_segmentation


class UndoHistory:
    """What nodes held before their last run; forgotten when a node leaves the scene.

    Args:
        scene: The scene of the nodes.
    """

    def __init__(self, scene: slicer.vtkMRMLScene) -> None:
        self._scene = scene
        self._former: dict[str, tuple[Any, Former | None]] = {}
        events = (slicer.vtkMRMLScene.NodeRemovedEvent, slicer.vtkMRMLScene.EndCloseEvent)
        forget = weakref.WeakMethod(self._forget_gone)
        self._observers = [scene.AddObserver(event, lambda *_: (forget() or _nothing)()) for event in events]

    def remember(self, node: slicer.vtkMRMLSegmentationNode, former: Former | None) -> None:
        """Keep what `undo` will give back; None when the run made the node."""
        self._former[node.GetID()] = (node, former)

    def can_undo(self, node: slicer.vtkMRMLSegmentationNode | None) -> bool:
        """Whether `undo` has something to give back."""
        return node is not None and self._former.get(node.GetID(), (None,))[0] is node

    def undo(self, node: slicer.vtkMRMLSegmentationNode | None, *, discard: bool = False) -> None:
        """Return a node back what it held before its last run, or remove it when that run made it.

        Args:
            node: The node.
            discard: Whether what people drew in it since may be lost.

        Raises:
            OptionError: There is nothing to undo, or something that people drew would be lost.
        """
        if node is None or not self.can_undo(node):
            raise OptionError(
                _("There is nothing to undo."),
                cause=_("No run of this session filled this segmentation."),
                next_step=_("Choose the segmentation of the last run."),
            )
        if not discard and (drawn := drawn_by_people(node)):
            raise OptionError(
                _("{name} holds work by hand, which undoing the run would delete.").format(
                    name=node.GetName()
                ),
                cause=_("Corrected or drawn by hand: {segments}.").format(segments=names_of(node, drawn)),
                next_step=_("Copy it into another segmentation, or undo with discardCorrections=True."),
            )
        _node, former = self._former.pop(node.GetID())
        if former is None:
            remove_segmentation(node)
        else:
            restore(former, node)

    def close(self) -> None:
        """Stop observing the scene and forget all."""
        for observer in self._observers:
            self._scene.RemoveObserver(observer)
        self._observers.clear()
        self._former.clear()

    def _forget_gone(self) -> None:
        for identity, (node, _former) in tuple(self._former.items()):
            if not self._scene.IsNodePresent(node):
                del self._former[identity]


def _nothing() -> None:
    return None

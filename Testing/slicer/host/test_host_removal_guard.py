"""The host refuses what crashes the application: a segmentation that loses its parts while it lives."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def living(host: Any) -> Iterator[SimpleNamespace]:
    """A segmentation with display node and tree item; what the guard says is forgotten afterwards."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    node.CreateDefaultDisplayNodes()
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = tree.CreateItem(tree.GetSceneItemID(), node)
    yield SimpleNamespace(node=node, display=node.GetDisplayNode(), tree=tree, item=item)
    host.forget_errors()


def test_display_node_first_is_refused(host: Any, living: SimpleNamespace) -> None:
    host.scene.RemoveNode(living.display)
    assert "display node of 'organs'" in str(host.errors[0])


def test_display_node_taken_off_is_refused(host: Any, living: SimpleNamespace) -> None:
    living.node.SetAndObserveDisplayNodeID(None)
    assert "display node of 'organs'" in str(host.errors[0])


@pytest.mark.parametrize("with_node", [False, True])
def test_tree_item_first_is_refused(host: Any, living: SimpleNamespace, with_node: bool) -> None:
    living.tree.RemoveItem(living.item, with_node, True)
    assert "tree item of 'organs'" in str(host.errors[0])


def test_segmentation_first_is_fine(host: Any, living: SimpleNamespace) -> None:
    host.scene.RemoveNode(living.node)
    host.scene.RemoveNode(living.display)
    living.tree.RemoveItem(living.item, False, True)
    assert host.errors == []


def test_closing_saving_and_loading_are_fine(host: Any, living: SimpleNamespace, tmp_path: Any) -> None:
    import slicer

    path = str(tmp_path / "scene.mrb")
    slicer.util.saveScene(path)
    slicer.util.loadScene(path)
    slicer.mrmlScene.Clear(0)
    assert host.errors == []

"""Stands for the layout manager: slice and 3D views by their real MRML nodes and logics."""

from __future__ import annotations

from typing import Any


class SliceController:
    """Stands for the bar above a slice view."""

    def __init__(self, logic: Any) -> None:
        self._logic = logic

    def fitSliceToBackground(self) -> None:
        """Show the whole background volume."""
        self._logic.FitSliceToAll()

    def setSliceVisible(self, visible: bool) -> None:
        """Show the slice in 3D."""
        self._logic.GetSliceNode().SetSliceVisible(visible)


class SliceWidget:
    """Stands for `qMRMLSliceWidget`."""

    def __init__(self, logic: Any) -> None:
        self._logic = logic

    def className(self) -> str:
        """Name of the C++ class."""
        return "qMRMLSliceWidget"

    def sliceLogic(self) -> Any:
        """The vtkMRMLSliceLogic."""
        return self._logic

    def mrmlSliceNode(self) -> Any:
        """The vtkMRMLSliceNode."""
        return self._logic.GetSliceNode()

    def sliceController(self) -> SliceController:
        """The bar above the view."""
        return SliceController(self._logic)

    def fitSliceToBackground(self) -> None:
        """Show the whole background volume."""
        self._logic.FitSliceToAll()


class ThreeDView:
    """Stands for `qMRMLThreeDView`; counts what was asked of it."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self.focal_point_resets = 0
        self.camera_resets = 0

    def className(self) -> str:
        """Name of the C++ class."""
        return "qMRMLThreeDView"

    def mrmlViewNode(self) -> Any:
        """The vtkMRMLViewNode."""
        return self._node

    def resetFocalPoint(self) -> None:
        """Look at the middle of what is shown."""
        self.focal_point_resets += 1

    def resetCamera(self) -> None:
        """Look at everything."""
        self.camera_resets += 1

    def forceRender(self) -> None:
        """Draw now."""


class ThreeDWidget:
    """Stands for `qMRMLThreeDWidget`."""

    def __init__(self, node: Any) -> None:
        self._view = ThreeDView(node)

    def threeDView(self) -> ThreeDView:
        """The view."""
        return self._view

    def mrmlViewNode(self) -> Any:
        """The vtkMRMLViewNode."""
        return self._view.mrmlViewNode()


class LayoutManager:
    """Stands for `qSlicerLayoutManager`."""

    threeDViewCount = 1
    tableViewCount = 0
    plotViewCount = 0

    def __init__(self, parts: Any) -> None:
        self._logics = parts.application_logic.GetSliceLogics()
        self._slices = {name: SliceWidget(logic) for name, logic in parts.slice_logics.items()}
        self._three_d = ThreeDWidget(parts.scene.GetSingletonNode("1", "vtkMRMLViewNode"))
        self.layout = 3

    def sliceViewNames(self) -> list[str]:
        """Names of the slice views."""
        return list(self._slices)

    def mrmlSliceLogics(self) -> Any:
        """The vtkCollection of slice logics."""
        return self._logics

    def sliceWidget(self, name: str) -> SliceWidget | None:
        """The slice view of that name, or None."""
        return self._slices.get(name)

    def threeDWidget(self, index: int) -> ThreeDWidget | None:
        """The only 3D view, or None."""
        return self._three_d if index in (0, "View1", "1") else None

    def setLayout(self, layout: int) -> None:
        """Arrange the views."""
        self.layout = int(layout)

    def resetSliceViews(self) -> None:
        """Show whole volumes in all slice views."""
        for widget in self._slices.values():
            widget.fitSliceToBackground()

    def resetThreeDViews(self) -> None:
        """Look at everything in the 3D view."""
        self._three_d.threeDView().resetFocalPoint()

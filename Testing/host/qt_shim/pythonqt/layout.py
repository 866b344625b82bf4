"""Stands for the layout manager: slice and 3D views by their real MRML nodes and logics."""

from __future__ import annotations

from typing import Any


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


class ThreeDView:
    """Stands for `qMRMLThreeDView`; counts what was asked of it."""

    def __init__(self) -> None:
        self.focal_point_resets = 0
        self.camera_resets = 0

    def className(self) -> str:
        """Name of the C++ class."""
        return "qMRMLThreeDView"

    def resetFocalPoint(self) -> None:
        """Look at the middle of what is shown."""
        self.focal_point_resets += 1

    def resetCamera(self) -> None:
        """Look at everything."""
        self.camera_resets += 1


class ThreeDWidget:
    """Stands for `qMRMLThreeDWidget`."""

    def __init__(self) -> None:
        self._view = ThreeDView()

    def threeDView(self) -> ThreeDView:
        """The view."""
        return self._view


class LayoutManager:
    """Stands for `qSlicerLayoutManager`."""

    threeDViewCount = 1

    def __init__(self, parts: Any) -> None:
        self._logics = parts.application_logic.GetSliceLogics()
        self._slices = {name: SliceWidget(logic) for name, logic in parts.slice_logics.items()}
        self._three_d = ThreeDWidget()

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

"""The window in which a CT is shown first."""

from __future__ import annotations

from typing import Any

from multiorganseg.errors import VolumeError
from MultiOrganSegLib.mrml import check_volume_node, volume_from_node

WINDOW_LEVEL = (350.0, 40.0)
"""Width and centre in HU: soft tissue of the abdomen."""


def use_ct_window(node: Any) -> bool:
    """Show a CT in the window of soft tissue, while its window is Slicer's automatic one.

    Files other than DICOM name no window, and the automatic one spans air to metal.

    Returns:
        Whether the window was changed.
    """
    display = node.GetScalarVolumeDisplayNode()
    if display is None or not display.GetAutoWindowLevel() or not _is_ct(node):
        return False
    set_ct_window(node)
    return True


def set_ct_window(node: Any) -> None:
    """Show a volume in the window of soft tissue."""
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(*WINDOW_LEVEL)


def _is_ct(node: Any) -> bool:
    from multiorganseg.volumes.modality import apparent_modality

    try:
        check_volume_node(node)
        appearance = apparent_modality(volume_from_node(node))
    except VolumeError:
        return False
    return appearance is not None and appearance.modality == "CT"

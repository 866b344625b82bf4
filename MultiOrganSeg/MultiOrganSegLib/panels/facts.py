"""What the panel says of a volume and of a model."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from multiorganseg.bundles import Metadata


def mean_dice(metadata: Metadata) -> str:
    """Mean Dice over the organs that were measured, with two decimals; a dash when none was."""
    dice = [measured["dice"] for measured in metadata.metrics.values() if "dice" in measured]
    return f"{sum(dice) / len(dice):.2f}" if dice else "–"


def volume_facts(node: Any) -> str:
    """Say a volume's size in voxels, its spacing in mm and its transform; a hint when there is no volume."""
    if node is None:
        return _("No CT at hand? Try one of these:")
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        return _("This volume is empty.")
    size = " × ".join(str(length) for length in image.GetDimensions())
    spacing = " × ".join(f"{length:.3g}" for length in node.GetSpacing())
    facts = _("{size} voxels of {spacing} mm").format(size=size, spacing=spacing)
    transform = node.GetParentTransformNode()
    if transform is None:
        return facts
    reported = (
        _("under the transform “{name}”, which is minded")
        if transform.IsTransformToWorldLinear()
        else _("under the non-linear transform “{name}”: harden it first")
    )
    return f"{facts}, {reported.format(name=transform.GetName())}"

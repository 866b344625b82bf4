"""What the user chose, kept in the scene."""

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper

QUALITIES = ("fast", "balanced", "best")
DEVICES = ("auto", "cpu", "cuda", "mps", "server")
EXISTING = ("ask", "replace", "new")
NO_ORGAN = "none"
"""Value of `Parameters.organs` when no organ is ticked, since an empty text stands for all."""


@parameterNodeWrapper
class Parameters:
    """The parameters of a run.

    Attributes:
        volume: The CT.
        segmentation: Where the organs go; None for a new one.
        model: Name of a bundle.
        organs: Organ keys separated by commas; empty for all, `NO_ORGAN` for none.
        quality: How much windows overlap.
        device: Where the network runs; see `MultiOrganSegLib.server` for "server".
        existing: What happens to segments that the output holds already.
    """

    volume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    model: str = "abdomen-ct"
    organs: str = ""
    quality: Annotated[str, Choice(list(QUALITIES))] = "balanced"
    device: Annotated[str, Choice(list(DEVICES))] = "auto"
    existing: Annotated[str, Choice(list(EXISTING))] = "ask"


def organ_keys(text: str) -> tuple[str, ...]:
    """Split the text of `Parameters.organs`."""
    return tuple(key.strip() for key in text.split(",") if key.strip())

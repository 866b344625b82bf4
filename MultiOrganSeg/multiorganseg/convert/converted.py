"""What all kinds of networks come to before they are written as a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multiorganseg.bundles.original import Original
from multiorganseg.convert.read_checkpoint import Weights


@dataclass(frozen=True, eq=False)
class Converted:
    """A network of another program, read and checked, with its steps as data.

    Attributes:
        name: Suggested for the bundle.
        description: One sentence.
        modality: "CT" or "MR".
        architecture: As `Metadata.architecture`.
        arguments: As `Metadata.arguments`.
        activation: As `Metadata.activation`.
        labels: Names of the organs in the source, in the order of the channels, without background.
        original: Its steps.
        orientation: Where the axes of its images run to; None where it is not known.
        spacing_mm: Along the network's axes.
        patch_shape: Along the network's axes.
        weights: Of each fold, by the names of our network.
        license: Of the weights, as the source states it.
        licence_text: What stands about it.
        files: What was read, for its sha256.
        facts: For the provenance, JSON values.
        dice: The source's own figures by organ's name in the source.
    """

    name: str
    description: str
    modality: str
    architecture: str
    arguments: Mapping[str, Any]
    activation: str
    labels: tuple[str, ...]
    original: Original
    orientation: str | None
    spacing_mm: tuple[float, float, float]
    patch_shape: tuple[int, int, int]
    weights: tuple[Weights, ...]
    license: str
    licence_text: str
    files: tuple[Path, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    dice: Mapping[str, float] = field(default_factory=dict)

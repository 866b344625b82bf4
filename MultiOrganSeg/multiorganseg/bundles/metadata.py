"""What a bundle says about its network."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from multiorganseg.bundles.original import Original
from multiorganseg.geometry.orient import CANONICAL_FEET, Feet, network_feet
from multiorganseg.organs.labels import LabelTable
from multiorganseg.schema import AtLeastOne, Limits, line, one_of

SCHEMA_VERSION = 1
CONVERTED_SCHEMA_VERSION = 2
"""Of bundles that another program's steps belong to: `Preprocessing.original`."""

NAME_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_NUMBER = "(?:0|[1-9][0-9]{0,5})"

Name = Annotated[
    str,
    Limits(
        pattern=rf"^(?:{NAME_PATTERN.pattern})\Z",
        description="that of a bundle: 1–64 lower-case letters, digits, '.', '_' or '-'",
    ),
]
Version = Annotated[
    str, Limits(pattern=rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}\Z", description="three numbers such as 1.0.0")
]
Modality = Annotated[str, one_of("CT", "MR")]
Colour = Annotated[int, Limits(ge=0, le=255)]
Size = Annotated[int, Limits(ge=1, le=1024)]
Spacing = Annotated[float, Limits(ge=0.1, le=20)]
Bounded = Annotated[float, Limits(ge=-1e5, le=1e5)]
Measured = Annotated[float, Limits(ge=0, le=1e9)]


@dataclass(frozen=True)
class Preprocessing:
    """How an image is brought into the form that the network was trained on.

    Attributes:
        spacing_mm: Voxel size (k, j, i) in mm.
        intensity: "window" clips to `window` and maps it linearly to [-1, 1]; "zscore" subtracts the mean of
            the volume and divides by its standard deviation; "original": as `original` says.
        window: Lower and upper end in HU; None for the others.
        original: The steps of the program that the network comes from; None for networks of our own.
    """

    spacing_mm: Annotated[tuple[Spacing, Spacing, Spacing], Limits(description="three numbers in 0.1…20")]
    intensity: Annotated[str, one_of("window", "zscore", "original")]
    window: Annotated[tuple[Bounded, Bounded] | None, Limits(description="lower and upper HU, or null")]
    original: Original | None = None

    @property
    def feet(self) -> Feet | None:
        """Along which axis of the network's array patients lie; None when that is not known."""
        if self.original is None:
            return CANONICAL_FEET
        return network_feet(self.original.orientation, self.original.axes)


@dataclass(frozen=True)
class CustomOrgan:
    """An organ that the catalogue does not know.

    Attributes:
        name: Display name.
        color: Red, green and blue in 0…255.
    """

    name: Annotated[str, line(100)]
    color: Annotated[tuple[Colour, Colour, Colour], Limits(description="three whole numbers in 0…255")]


@dataclass(frozen=True)
class Domain:
    """What the scans of the training were like.

    Attributes:
        scan: Range in which eight of ten scans lay, of each measure of
            `multiorganseg.quality.domain.scan_measures`.
        organs_hu: Likewise of each organ's median intensity, within the window.
        above_liver_mm: How far each organ's highest voxel lay above the liver's in at least two scans, in mm:
            one scan of a chest does not teach what lies there.
    """

    scan: Mapping[str, tuple[Bounded, Bounded]]
    organs_hu: Mapping[str, tuple[Bounded, Bounded]]
    above_liver_mm: Mapping[str, Bounded]

    @property
    def widest_mm(self) -> float:
        """Width up to which bodies were seen, in mm; infinite where it was not measured."""
        return self.scan.get("width_mm", (0.0, math.inf))[1]


@dataclass(frozen=True)
class Metadata:
    """The contents of `configs/metadata.json`.

    Attributes:
        schema_version: Version of this schema.
        name: Short name, for example "abdomen-ct": lower-case letters, digits, ".", "_" and "-".
        version: Three numbers, for example "1.0.0".
        description: One sentence for a list of bundles.
        modality: "CT" or "MR".
        architecture: Name on the whitelist `multiorganseg.networks.names.ARCHITECTURES`.
        arguments: Keyword arguments of the network's constructor, JSON values only.
        activation: "softmax" (channel 0 is background), "sigmoid" (no background channel) or "regions" (as
            "sigmoid", but organs overlap, and of those at a voxel the last one labels it).
        labels: Organ key by label value, numbered 1…C. See `channel`.
        preprocessing: See `Preprocessing`.
        patch_shape: Shape (k, j, i) of the network's window in voxels of `preprocessing.spacing_mm`.
        feature_channels: Width of the features that the network gives beside the logits.
        license: SPDX identifier or name of the weights' licence.
        metrics: By organ key, measured values by name: "dice" and "nsd" in [0, 1], "hd95" in mm, others free.
        training: Provenance of the weights, JSON values only.
        custom_organs: By organ key, organs of the label table that the catalogue does not know.
        domain: What the scans of the training were like; None where nothing is said of them.
    """

    schema_version: AtLeastOne
    name: Name
    version: Version
    description: Annotated[str, line(2000)]
    modality: Modality
    architecture: str
    arguments: Mapping[str, Any]
    activation: Annotated[str, one_of("softmax", "sigmoid", "regions")]
    labels: LabelTable
    preprocessing: Preprocessing
    patch_shape: Annotated[tuple[Size, Size, Size], Limits(description="three whole numbers in 8…1024")]
    feature_channels: Annotated[int, Limits(ge=1, le=4096)]
    license: Annotated[str, line(200)]
    metrics: Mapping[str, Mapping[str, Measured]] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    custom_organs: Mapping[str, CustomOrgan] = field(default_factory=dict)
    domain: Domain | None = None

    @property
    def channels(self) -> int:
        """Number of channels of the logits: the organs, and background under softmax."""
        return len(self.labels.organs) + (self.activation == "softmax")

    def channel(self, key: str) -> int:
        """Channel of the logits that belongs to an organ.

        Raises:
            OrganError: The label table has no such organ.
        """
        return self.labels.value(key) - (self.activation != "softmax")

    @property
    def in_channels(self) -> int:
        """Number of channels of the input."""
        original = self.preprocessing.original
        return 1 if original is None else len(original.channels)

    @property
    def folds(self) -> int:
        """Number of networks whose logits are averaged."""
        original = self.preprocessing.original
        return 1 if original is None else original.folds

    @property
    def version_numbers(self) -> tuple[int, ...]:
        """The version as numbers, for comparison."""
        return tuple(int(part) for part in self.version.split("."))

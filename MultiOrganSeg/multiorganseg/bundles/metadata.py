"""What a bundle says about its network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from multiorganseg.bundles.original import Original
from multiorganseg.geometry.orient import CANONICAL_FEET, Feet, network_feet
from multiorganseg.organs.labels import LabelTable

SCHEMA_VERSION = 1
CONVERTED_SCHEMA_VERSION = 2
"""Of bundles that another program's steps belong to: `Preprocessing.original`."""


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

    spacing_mm: tuple[float, float, float]
    intensity: str
    window: tuple[float, float] | None
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

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Domain:
    """What the scans of the training were like.

    Attributes:
        scan: Range in which eight of ten scans lay, of each measure of
            `multiorganseg.quality.domain.scan_measures`.
        organs_hu: Likewise of each organ's median intensity, within the window.
        above_liver_mm: How far each organ's highest voxel lay above the liver's at most, in mm.
    """

    scan: Mapping[str, tuple[float, float]]
    organs_hu: Mapping[str, tuple[float, float]]
    above_liver_mm: Mapping[str, float]


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

    schema_version: int
    name: str
    version: str
    description: str
    modality: str
    architecture: str
    arguments: Mapping[str, Any]
    activation: str
    labels: LabelTable
    preprocessing: Preprocessing
    patch_shape: tuple[int, int, int]
    feature_channels: int
    license: str
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
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

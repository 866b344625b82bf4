"""A recipe: one TOML file that says everything about an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from multiorganseg.bundles.metadata import Modality, Name, Preprocessing
from multiorganseg.bundles.original import Original
from multiorganseg.errors import TrainingError
from multiorganseg.geometry.orient import CANONICAL_FEET, Feet, network_feet
from multiorganseg.intensities import AIR, darkest
from multiorganseg.organs.labels import LabelTable, left_right_pairs
from multiorganseg.schema import (
    AtLeastOne,
    Count,
    Finite,
    Limits,
    NotNegative,
    Positive,
    SchemaError,
    Share,
    one_of,
    problems_of,
)
from multiorganseg_training.recipe.schedule import SCHEDULES

UNNAMED = "*"
NAMES_OF_CASES = ("known", "training", "validation")
"""Fields of `DataSpec` that hold names of cases, which may be those of patients."""
INTENSITIES = ("window", "zscore", "original")

Spacing = Annotated[float, Limits(ge=0.01, le=100)]
BelowOne = Annotated[float, Limits(ge=0, lt=1)]
LabelValue = Annotated[
    str, Limits(pattern=r"^[1-9][0-9]{0,4}\Z", description="label values in 1…65535, in quotes")
]


@dataclass(frozen=True)
class DataSpec:
    """Which cases, and what their labels mean.

    Attributes:
        labels: Label value (as text) to organ key, in the files of the cases. Values of the same key are
            one organ to the network; values that are left out are background.
        known: Organ keys that are annotated, by case name; the labels of the others are hidden from the
            training. "*" stands for all cases that are not named; without it they have every organ annotated.
        training: Names of the cases that train, or patterns such as "hospital_*"; those of the fold never do.
        validation: Case names of the validation fold.
        modality: "CT" or "MR".
    """

    labels: dict[LabelValue, str]
    known: dict[str, list[str]] = field(default_factory=dict)
    training: tuple[str, ...] = ("*",)
    validation: tuple[str, ...] = ()
    modality: Modality = "CT"

    @property
    def table(self) -> LabelTable:
        """The network's channels: organs numbered from 1 in the order of their first label value."""
        in_order = sorted(self.labels.items(), key=lambda entry: int(entry[0]))
        return LabelTable.numbered(dict.fromkeys(key for _, key in in_order))

    @property
    def channels(self) -> dict[int, int]:
        """Channel by label value of the files."""
        return {int(value): self.table.value(key) for value, key in self.labels.items()}

    def known_channels(self, case: str) -> frozenset[int]:
        """Channels that are annotated in a case."""
        unnamed = self.known.get(UNNAMED, self.table.keys)
        return frozenset(self.table.value(key) for key in self.known.get(case, unnamed))


@dataclass(frozen=True)
class PreprocessingSpec:
    """How an image comes onto the network's grid.

    Attributes:
        spacing_mm: Spacing along (k, j, i).
        window: Intensities clipped to this range and mapped to [−1, 1]; HU for CT.
        intensity: "window", or "zscore": mean 0 and standard deviation 1 over each volume, for MR; or
            "original", for what builds on a converted network.
        original: The steps of that network's program, as its bundle states them.
    """

    spacing_mm: tuple[Spacing, Spacing, Spacing] = (3.0, 1.5, 1.5)
    window: tuple[Finite, Finite] = (-125.0, 275.0)
    intensity: Annotated[str, one_of(*INTENSITIES)] = "window"
    original: dict[str, Any] = field(default_factory=dict)

    @property
    def air(self) -> float | None:
        """Normalised intensity of air; None where it is not the same in every volume."""
        if self.intensity == "original":
            return darkest(Original.from_json(self.original).intensities[0])
        return AIR if self.intensity == "window" else None

    @property
    def feet(self) -> Feet | None:
        """Along which axis of the network's array patients lie; None when that is not known."""
        if self.intensity != "original":
            return CANONICAL_FEET
        said = Original.from_json(self.original)
        return network_feet(said.orientation, said.axes)

    @property
    def is_consistent(self) -> bool:
        """Whether the steps of another program stand there where they are needed, and are valid."""
        if self.intensity != "original":
            return not self.original
        try:
            return bool(Original.from_json(self.original))
        except SchemaError:
            return False

    def for_bundle(self) -> Preprocessing:
        """Return it as the engine and a bundle say it."""
        return Preprocessing(
            self.spacing_mm,
            self.intensity,
            self.window if self.intensity == "window" else None,
            Original.from_json(self.original) if self.intensity == "original" else None,
        )


@dataclass(frozen=True)
class NetworkSpec:
    """The network.

    Attributes:
        architecture: Name on the engine's whitelist.
        arguments: Keyword arguments of its constructor, without the channel counts, which the organs say.
        activation: "softmax" (channel 0 is background) or "sigmoid" (one channel an organ) over its logits.
        patch_shape: Voxels (k, j, i) of a training patch and of the inference window.
        initial: Folder of a run, or folder or name of a bundle, from whose weights the training starts;
            random ones if empty. A network with sigmoids may start one with a softmax.
    """

    architecture: str = "strided_dynunet"
    arguments: dict[str, Any] = field(default_factory=dict)
    activation: Annotated[str, one_of("softmax", "sigmoid")] = "softmax"
    patch_shape: tuple[AtLeastOne, AtLeastOne, AtLeastOne] = (48, 160, 192)
    initial: str = ""


@dataclass(frozen=True)
class AugmentationSpec:
    """Random changes of a training patch; each range is symmetric or (low, high).

    Attributes:
        rotation_degrees: Largest rotation about k, and half of it about j and i (not for single slices).
        scale: Range of isotropic scaling.
        anisotropy: Largest extra scaling of one axis.
        brightness: Largest shift, in units of the normalised intensity.
        contrast: Range of the factor about the mean.
        noise: Largest standard deviation of Gaussian noise.
        blur_probability: How often the patch is smoothed along k, as thicker slices would.
        organ_centred: Share of patches centred on a voxel of a randomly chosen organ.
        favoured: Organ keys on one of which further patches are centred, in cases in which it is annotated.
        favoured_share: Share of these patches.
        quarter_turns: Whether patches are also mirrored and turned about k by right angles; not for organs
            of both sides, which a mirror exchanges.
        off_centre: How far an organ's voxel may lie from the middle of its patch, in shares of the patch.
        overhang: Share of patches that reach into the air around the volume.
        elastic_mm: Standard deviation of a smooth displacement.
        phases: Share of patches shown in another contrast phase; CT with a window.
        gamma: Largest exponent of the normalised intensity, and the inverse of the smallest; 1 for none.
        field_cuts: Share of patches shown as of a shorter scan or a smaller field of view.
        coarse: Share of patches shown with thicker slices, and share of those with larger pixels.
        mixed: Share of patches into which a part of another case is pasted; of cases that know every organ.
        absent_share: Share of patches from cases in which no organ occurs; negative: as other cases.
    """

    rotation_degrees: Finite = 15.0
    scale: tuple[Positive, Positive] = (0.85, 1.2)
    anisotropy: BelowOne = 0.08
    brightness: NotNegative = 0.15
    contrast: tuple[Finite, Finite] = (0.8, 1.25)
    noise: NotNegative = 0.08
    blur_probability: Share = 0.15
    organ_centred: Share = 0.6
    favoured: tuple[str, ...] = ()
    favoured_share: Share = 0.0
    quarter_turns: bool = False
    off_centre: Share = 0.0
    overhang: Share = 0.0
    elastic_mm: NotNegative = 0.0
    phases: Share = 0.0
    gamma: Annotated[float, Limits(ge=1, le=1e300)] = 1.0
    field_cuts: Share = 0.0
    coarse: Share = 0.0
    mixed: Share = 0.0
    absent_share: Annotated[float, Limits(ge=-1e300, le=1)] = -1.0


@dataclass(frozen=True)
class OptimisationSpec:
    """How the weights move; by default AdamW, linear warm-up, cosine decay to zero, averaged weights.

    Attributes:
        iterations: Optimiser steps.
        batch_size: Patches a step.
        fixed_batches: How many batches there are at a time, each seen again in every pass over them, for a
            method with a frozen network: what that says of them is kept on the disk. Other methods, and 0,
            draw each anew.
        passes: Over the fixed batches, before others take their place; 0 keeps them to the end.
        labelled_per_batch: How many of them come from cases in which some organ is annotated, the others from
            cases without annotations; 0 takes cases as they come.
        learning_rate: Peak of the schedule.
        head_factor: Factor of the learning rate for the last layer, whose logits must grow from near zero.
        trunk_factor: Factor of the learning rate for all other layers of the network.
        head_alone: Share of the iterations, the first ones, in which nothing but the last layer moves.
        optimiser: "adamw" or "sgd".
        momentum: Of "sgd".
        nesterov: Whether the momentum of "sgd" is Nesterov's.
        weight_decay: Decoupled for "adamw".
        schedule: "cosine", "poly" (power 0.9) or "constant".
        warmup: Share of the iterations with rising learning rate, for "cosine".
        gradient_clip: Largest norm of the gradient.
        ema_decay: Decay of the exponential moving average of the weights that is validated and published.
        precision: "bf16" (autocast; float32 where the device is no faster in bfloat16) or "fp32".
    """

    iterations: AtLeastOne = 2000
    batch_size: AtLeastOne = 1
    fixed_batches: Count = 0
    passes: Count = 0
    labelled_per_batch: Count = 0
    learning_rate: Positive = 1e-3
    head_factor: Positive = 1.0
    trunk_factor: Positive = 1.0
    head_alone: BelowOne = 0.0
    optimiser: Annotated[str, one_of("adamw", "sgd")] = "adamw"
    momentum: BelowOne = 0.9
    nesterov: bool = True
    weight_decay: NotNegative = 1e-2
    schedule: Annotated[str, one_of(*SCHEDULES)] = "cosine"
    warmup: BelowOne = 0.05
    gradient_clip: Positive = 1.0
    ema_decay: BelowOne = 0.995
    precision: Annotated[str, one_of("bf16", "fp32")] = "bf16"


@dataclass(frozen=True)
class ReportingSpec:
    """How often the run tells, validates and saves, in iterations (0: only at the end)."""

    log_every: Count = 10
    validate_every: Count = 0
    checkpoint_every: Count = 50


@dataclass(frozen=True)
class Recipe:
    """A whole experiment.

    Attributes:
        name: Also the name of the bundle made from it.
        method: Name of the method that learns.
        method_arguments: Keyword arguments of the method.
        seed: Of the one generator that all randomness comes from.
    """

    name: Name
    data: DataSpec
    description: str = ""
    method: str = "supervised"
    method_arguments: dict[str, Any] = field(default_factory=dict)
    seed: Annotated[int, Limits(ge=0, le=2**63 - 1)] = 0
    preprocessing: PreprocessingSpec = PreprocessingSpec()
    network: NetworkSpec = NetworkSpec()
    augmentation: AugmentationSpec = AugmentationSpec()
    optimisation: OptimisationSpec = OptimisationSpec()
    reporting: ReportingSpec = ReportingSpec()

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            TrainingError: A value is out of range.
        """
        broken = problems_of(self) or self._contradictions()
        if broken:
            msg = f"The recipe '{self.name}' is not valid."
            raise TrainingError(msg, cause="; ".join(broken) + ".", next_step="Correct the file.")

    def _contradictions(self) -> list[str]:
        optimisation, augmentation = self.optimisation, self.augmentation
        data, prepared = self.data, self.preprocessing
        organs, known = set(data.labels.values()), {key for keys in data.known.values() for key in keys}
        checks = {
            "'data.labels' must map label values to organ keys": 0
            < max(map(int, data.labels), default=0)
            < 65536,
            "'data.known' must name organs of data.labels": known <= organs,
            "'optimisation.labelled_per_batch' must be at most batch_size": (
                optimisation.labelled_per_batch <= optimisation.batch_size
            ),
            "'preprocessing.original' must be a converted network's, for the intensity original alone": (
                prepared.is_consistent
            ),
            "'network.arguments' must not hold in_channels or out_channels, which data.labels says": (
                not {"in_channels", "out_channels"} & self.network.arguments.keys()
            ),
            "'preprocessing.window' must rise": prepared.window[0] < prepared.window[1],
            "'augmentation.scale' must rise": augmentation.scale[0] <= augmentation.scale[1],
            "'augmentation.contrast' must rise": augmentation.contrast[0] <= augmentation.contrast[1],
            "'augmentation.favoured' must name organs of data.labels": set(augmentation.favoured) <= organs,
            "'augmentation.phases' needs CT with a window": (
                augmentation.phases == 0 or (data.modality == "CT" and prepared.intensity == "window")
            ),
            "'augmentation.quarter_turns' mirror left and right organs of data.labels into each other": (
                not augmentation.quarter_turns or not left_right_pairs(organs)
            ),
            "'optimisation.passes' go over fixed_batches": (
                optimisation.fixed_batches > 0 or optimisation.passes == 0
            ),
        }
        return [text for text, holds in checks.items() if not holds]

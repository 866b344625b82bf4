"""A recipe: one TOML file that says everything about an experiment."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from typing import Any

from multiorganseg.bundles.metadata import Preprocessing
from multiorganseg.bundles.metadata_schema import NAME_PATTERN
from multiorganseg.bundles.original_json import original_from_json, original_problems
from multiorganseg.errors import TrainingError
from multiorganseg.intensities import AIR, darkest
from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.recipe.schedule import SCHEDULES

UNNAMED = "*"
INTENSITIES = ("window", "zscore", "original")


@dataclass(frozen=True)
class DataSpec:
    """Which cases, and what their labels mean.

    Attributes:
        labels: Label value (as text) to organ key, in the files of the cases. Values of the same key are
            one organ to the network; values that are left out are background.
        known: Organ keys that are annotated, by case name; the labels of the others are hidden from the
            training. "*" stands for all cases that are not named; without it they have every organ annotated.
        validation: Case names of the validation fold; all others train.
        modality: "CT" or "MR".
    """

    labels: dict[str, str]
    known: dict[str, list[str]] = field(default_factory=dict)
    validation: tuple[str, ...] = ()
    modality: str = "CT"

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

    spacing_mm: tuple[float, float, float] = (3.0, 1.5, 1.5)
    window: tuple[float, float] = (-125.0, 275.0)
    intensity: str = "window"
    original: dict[str, Any] = field(default_factory=dict)

    @property
    def air(self) -> float | None:
        """Normalised intensity of air; None where it is not the same in every volume."""
        if self.intensity == "original":
            return darkest(original_from_json(self.original).intensities[0])
        return AIR if self.intensity == "window" else None

    @property
    def is_consistent(self) -> bool:
        """Whether the steps of another program stand there where they are needed, and are valid."""
        if self.intensity != "original":
            return not self.original
        return not original_problems(json.loads(json.dumps(self.original)))

    def for_bundle(self) -> Preprocessing:
        """Return it as the engine and a bundle say it."""
        return Preprocessing(
            self.spacing_mm,
            self.intensity,
            self.window if self.intensity == "window" else None,
            original_from_json(self.original) if self.intensity == "original" else None,
        )


@dataclass(frozen=True)
class NetworkSpec:
    """The network.

    Attributes:
        architecture: Name on the engine's whitelist.
        arguments: Keyword arguments of its constructor, without the channel counts.
        activation: "softmax" (channel 0 is background) or "sigmoid" (one channel an organ) over its logits.
        patch_shape: Voxels (k, j, i) of a training patch and of the inference window.
        initial: Folder of a run, or folder or name of a bundle, from whose weights the training starts;
            random ones if empty. A network with sigmoids may start one with a softmax.
    """

    architecture: str = "strided_dynunet"
    arguments: dict[str, Any] = field(default_factory=dict)
    activation: str = "softmax"
    patch_shape: tuple[int, int, int] = (48, 160, 192)
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
        quarter_turns: Whether patches are also mirrored and turned about k by right angles.
        off_centre: How far an organ's voxel may lie from the middle of its patch, in shares of the patch.
        overhang: Share of patches that reach into the air around the volume.
        elastic_mm: Standard deviation of a smooth displacement.
        phases: Share of patches shown in another contrast phase; CT with a window.
        gamma: Largest exponent of the normalised intensity, and the inverse of the smallest; 1 for none.
        field_cuts: Share of patches shown as of a shorter scan or a smaller field of view.
        coarse: Share of patches shown with thicker slices, and share of those with larger pixels.
        mixed: Share of patches into which a part of another case is pasted.
        absent_share: Share of patches from cases in which no organ occurs; negative: as other cases.
    """

    rotation_degrees: float = 15.0
    scale: tuple[float, float] = (0.85, 1.2)
    anisotropy: float = 0.08
    brightness: float = 0.15
    contrast: tuple[float, float] = (0.8, 1.25)
    noise: float = 0.08
    blur_probability: float = 0.15
    organ_centred: float = 0.6
    favoured: tuple[str, ...] = ()
    favoured_share: float = 0.0
    quarter_turns: bool = False
    off_centre: float = 0.0
    overhang: float = 0.0
    elastic_mm: float = 0.0
    phases: float = 0.0
    gamma: float = 1.0
    field_cuts: float = 0.0
    coarse: float = 0.0
    mixed: float = 0.0
    absent_share: float = -1.0


@dataclass(frozen=True)
class OptimisationSpec:
    """How the weights move; by default AdamW, linear warm-up, cosine decay to zero, averaged weights.

    Attributes:
        iterations: Optimiser steps.
        batch_size: Patches a step.
        fixed_batches: How many different batches there are, each seen again in every pass over them; what a
            method with a frozen network says of them is kept on the disk. 0 draws each anew.
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
        precision: "bf16" (autocast) or "fp32".
    """

    iterations: int = 2000
    batch_size: int = 1
    fixed_batches: int = 0
    labelled_per_batch: int = 0
    learning_rate: float = 1e-3
    head_factor: float = 1.0
    trunk_factor: float = 1.0
    head_alone: float = 0.0
    optimiser: str = "adamw"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    warmup: float = 0.05
    gradient_clip: float = 1.0
    ema_decay: float = 0.995
    precision: str = "bf16"


@dataclass(frozen=True)
class ReportingSpec:
    """How often the run tells, validates and saves, in iterations (0: only at the end)."""

    log_every: int = 10
    validate_every: int = 0
    checkpoint_every: int = 50


@dataclass(frozen=True)
class Recipe:
    """A whole experiment.

    Attributes:
        name: Also the name of the bundle made from it.
        method: Name of the method that learns.
        method_arguments: Keyword arguments of the method.
        seed: Of the one generator that all randomness comes from.
    """

    name: str
    data: DataSpec
    description: str = ""
    method: str = "supervised"
    method_arguments: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
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
        optimisation, reporting, augmentation = self.optimisation, self.reporting, self.augmentation
        checks = {
            "name must be that of a bundle: a-z, 0-9, '.', '_' and '-'": NAME_PATTERN.fullmatch(self.name),
            "data.labels must map label values to organ keys": self._labels_hold(),
            "data.known must name organs of data.labels": {
                key for keys in self.data.known.values() for key in keys
            }
            <= set(self.data.labels.values()),
            "network.activation must be softmax or sigmoid": self.network.activation
            in ("softmax", "sigmoid"),
            "optimisation.optimiser must be adamw or sgd": optimisation.optimiser in ("adamw", "sgd"),
            "optimisation.momentum must lie in [0, 1)": 0 <= optimisation.momentum < 1,
            "optimisation.schedule must be cosine, poly or constant": optimisation.schedule in SCHEDULES,
            "optimisation.iterations must be at least 1": optimisation.iterations >= 1,
            "optimisation.batch_size must be at least 1": optimisation.batch_size >= 1,
            "optimisation.fixed_batches must not be negative": optimisation.fixed_batches >= 0,
            "optimisation.labelled_per_batch must lie between 0 and batch_size": 0
            <= optimisation.labelled_per_batch
            <= optimisation.batch_size,
            "optimisation.learning_rate must be positive": optimisation.learning_rate > 0,
            "optimisation.head_factor must be positive": optimisation.head_factor > 0,
            "optimisation.trunk_factor must be positive": optimisation.trunk_factor > 0,
            "optimisation.head_alone must lie in [0, 1)": 0 <= optimisation.head_alone < 1,
            "optimisation.weight_decay must not be negative": optimisation.weight_decay >= 0,
            "optimisation.warmup must lie in [0, 1)": 0 <= optimisation.warmup < 1,
            "optimisation.gradient_clip must be positive": optimisation.gradient_clip > 0,
            "optimisation.ema_decay must lie in [0, 1)": 0 <= optimisation.ema_decay < 1,
            "optimisation.precision must be bf16 or fp32": optimisation.precision in ("bf16", "fp32"),
            "preprocessing.spacing_mm must be positive": min(self.preprocessing.spacing_mm) > 0,
            "preprocessing.intensity must be window, zscore or original": self.preprocessing.intensity
            in INTENSITIES,
            "preprocessing.original must be a converted network's, for the intensity original alone": (
                self.preprocessing.is_consistent
            ),
            "preprocessing.window must rise": self.preprocessing.window[0] < self.preprocessing.window[1],
            "network.patch_shape must be positive": min(self.network.patch_shape) > 0,
            "augmentation.scale must rise from above 0": 0 < augmentation.scale[0] <= augmentation.scale[1],
            "augmentation.anisotropy must lie in [0, 1)": 0 <= augmentation.anisotropy < 1,
            "augmentation.contrast must rise": augmentation.contrast[0] <= augmentation.contrast[1],
            "augmentation.brightness must not be negative": augmentation.brightness >= 0,
            "augmentation.noise must not be negative": augmentation.noise >= 0,
            "augmentation.blur_probability must lie in [0, 1]": 0 <= augmentation.blur_probability <= 1,
            "augmentation.organ_centred must lie in [0, 1]": 0 <= augmentation.organ_centred <= 1,
            "augmentation.favoured must name organs of data.labels": set(augmentation.favoured)
            <= set(self.data.labels.values()),
            "augmentation.favoured_share must lie in [0, 1]": 0 <= augmentation.favoured_share <= 1,
            "augmentation.off_centre must lie in [0, 1]": 0 <= augmentation.off_centre <= 1,
            "augmentation.gamma must be at least 1": augmentation.gamma >= 1,
            "augmentation.elastic_mm must not be negative": augmentation.elastic_mm >= 0,
            "augmentation.overhang, phases, field_cuts, coarse and mixed must lie in [0, 1]": all(
                0 <= share <= 1
                for share in (
                    augmentation.overhang,
                    augmentation.phases,
                    augmentation.field_cuts,
                    augmentation.coarse,
                    augmentation.mixed,
                )
            ),
            "augmentation.absent_share must be at most 1": augmentation.absent_share <= 1,
            "augmentation.phases needs CT with a window": augmentation.phases == 0
            or (self.data.modality == "CT" and self.preprocessing.intensity == "window"),
            "reporting must not be negative": min(dataclasses.astuple(reporting)) >= 0,
            "seed must lie between 0 and 2^63": 0 <= self.seed < 2**63,
            "data.modality must be CT or MR": self.data.modality in ("CT", "MR"),
        }
        broken = [text for text, holds in checks.items() if not holds]
        if broken:
            msg = f"The recipe '{self.name}' is not valid."
            raise TrainingError(msg, cause="; ".join(broken), next_step="Correct the file.")

    def _labels_hold(self) -> bool:
        labels = self.data.labels
        return bool(labels) and all(
            re.fullmatch(r"[1-9][0-9]{0,4}", value) and int(value) < 65536 for value in labels
        )

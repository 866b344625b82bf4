"""Mutual learning: which pseudo-labels, how reliable, and what they cost (Su et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from multiorganseg.errors import TrainingError
from multiorganseg.schema import AtLeastOne, Share, problems_of
from multiorganseg_training.losses.known import require_choice


@dataclass(frozen=True)
class Ramp:
    """A Gaussian ramp in steps (Su et al. 2024): exp(−5 (1 − min(⌊t / every⌋, steps) / steps)²).

    Attributes:
        every: Iterations a step.
        steps: After which the weight is 1; 0 gives 1 from the start.

    Raises:
        TrainingError: The ramp cannot be climbed.
    """

    every: int = 150
    steps: int = 40

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            TrainingError: The ramp cannot be climbed.
        """
        if self.every < 1 or self.steps < 0:
            msg = f"No ramp has {self.steps} steps of {self.every} iterations."
            raise TrainingError(msg, next_step="Set ramp_every to at least 1 and ramp_steps to at least 0.")

    def weight(self, iteration: int) -> float:
        """Return the weight in (0, 1] at an iteration from 0."""
        if not self.steps:
            return 1.0
        return math.exp(-5 * (1 - min(iteration // self.every, self.steps) / self.steps) ** 2)


ENTROPY, CONFIDENCE, THRESHOLD, EVERYWHERE = "entropy", "confidence", "threshold", "everywhere"
SELECTIONS = (ENTROPY, CONFIDENCE, THRESHOLD, EVERYWHERE)
EPSILON = 1e-6


def entropy(probabilities: Tensor) -> Tensor:
    """Return −Σ_c p_c log(p_c + 1e-6) in nats.

    Args:
        probabilities: (batch, classes + 1, *space), float32.

    Returns:
        (batch, *space), float32.
    """
    return (probabilities + EPSILON).log_().mul_(probabilities).sum(dim=1).neg_()


def uncertainty(probabilities: Tensor, selection: str = ENTROPY) -> Tensor:
    """Return how uncertain each voxel is: its entropy for "entropy", else minus its largest probability.

    Args:
        probabilities: (batch, classes + 1, *space), float32.
        selection: One of `SELECTIONS`.

    Returns:
        (batch, *space), float32, for `more_certain`.

    Raises:
        TrainingError: The selection is unknown.
    """
    require_choice("selection", selection, SELECTIONS)
    return entropy(probabilities) if selection == ENTROPY else -probabilities.amax(dim=1)


def more_certain(
    student: Tensor, teacher: Tensor, selection: str = ENTROPY, threshold: float = 0.5
) -> Tensor:
    """Return the voxels on which a student learns from a teacher.

    "entropy": the student's entropy is larger (Su et al. 2024). "confidence": its largest probability is
    smaller, which is the same with two classes and is not with more, since entropy also looks at how the rest
    is shared out. "threshold": the teacher's largest probability reaches `threshold`, whatever the student's.
    "everywhere": no choice.

    Args:
        student: (batch, *space), float32: the student's `uncertainty` for this selection.
        teacher: The same of the teacher.
        selection: One of `SELECTIONS`.
        threshold: For "threshold". With two classes one of them always reaches 0.5.

    Returns:
        (batch, *space), bool.

    Raises:
        TrainingError: The selection is unknown.
    """
    require_choice("selection", selection, SELECTIONS)
    if selection in (ENTROPY, CONFIDENCE):
        return student > teacher
    return teacher <= (-threshold if selection == THRESHOLD else 0)


MIN_VOXELS = 32


@dataclass(frozen=True)
class ClassPrototypes:
    """One direction in feature space for each volume and class.

    Attributes:
        directions: (batch, classes + 1, width), float32, of length 1; 0 where there is none.
        present: (batch, classes + 1), bool: whether the class has enough voxels.
    """

    directions: Tensor
    present: Tensor


def class_prototypes(
    features: Tensor, labels: Tensor, channels: int, min_voxels: int = MIN_VOXELS
) -> ClassPrototypes:
    """Return the direction of the mean feature of each class in each volume.

    Args:
        features: (batch, width, *space), float32.
        labels: (batch, *space), int64 in 0…channels − 1: the predicted class.
        channels: Classes with background.
        min_voxels: A class with fewer has no prototype.
    """
    classes = torch.arange(channels, device=labels.device)[:, None]
    member = (labels.flatten(1)[:, None] == classes).to(features.dtype)
    sums = torch.einsum("bkv,bdv->bkd", member, features.flatten(2))
    present = member.sum(dim=2) >= max(min_voxels, 1)
    directions = functional.normalize(sums, dim=2)
    return ClassPrototypes(directions.where(present[..., None], 0.0), present)


def similarities(features: Tensor, prototypes: ClassPrototypes) -> Tensor:
    """Return the cosine of each voxel's features with each class's prototype.

    Args:
        features: (batch, width, *space), float32.
        prototypes: Of the same volumes.

    Returns:
        (batch, classes + 1, *space), float32 in [−1, 1]; 0 for a class without prototype.
    """
    voxels = features.movedim(1, -1).flatten(1, -2).contiguous()
    lengths = torch.linalg.vector_norm(voxels, dim=2).clamp(min=1e-12)
    cosines = torch.einsum("bkd,bvd->bkv", prototypes.directions, voxels).div_(lengths[:, None])
    return cosines.reshape(*cosines.shape[:2], *features.shape[2:])


HALF_SUM, MEAN = "half_sum", "mean"
FORMS = (HALF_SUM, MEAN)


@torch.no_grad()
def reliability(
    features: Tensor,
    probabilities: Tensor,
    form: str = HALF_SUM,
    min_voxels: int = MIN_VOXELS,
    labels: Tensor | None = None,
) -> Tensor:
    """Return the weight of each pseudo-label from the cosines s with the class prototypes (Su et al. 2024).

    "mean": 1 − mean_c (s_c − p_c)², as published, for two classes. "half_sum": 1 − ½ Σ_c (s_c − p_c)², not
    below 0: the same for two classes, and not diluted by the many classes that a voxel is clearly not. A
    class of fewer than `min_voxels` voxels in a volume has no prototype and no term there.

    Args:
        features: (batch, width, *space) of the teacher, any floating type, on the grid of the probabilities.
        probabilities: (batch, classes + 1, *space) of the teacher; their argmax makes the prototypes.
        form: "half_sum" or "mean".
        min_voxels: See `class_prototypes`.
        labels: (batch, *space), int64: the argmax, where it is known already.

    Returns:
        (batch, *space), float32 in [0, 1], detached.

    Raises:
        TrainingError: The form is unknown, or features and probabilities lie on different grids.
    """
    require_choice("form", form, FORMS)
    if features.shape[2:] != probabilities.shape[2:]:
        msg = f"The features {tuple(features.shape)} are not on the grid of {tuple(probabilities.shape)}."
        raise TrainingError(msg, next_step="Take a network whose features are as fine as the image: 'vnet'.")
    channels = probabilities.shape[1]
    with torch.autocast(features.device.type, enabled=False):
        features, probabilities = features.detach().float(), probabilities.detach().float()
        labels = probabilities.max(dim=1).indices if labels is None else labels
        prototypes = class_prototypes(features, labels, channels, min_voxels)
        differences = similarities(features, prototypes).sub_(probabilities)
        present = prototypes.present.reshape(*prototypes.present.shape, *[1] * (features.ndim - 2))
        squares = differences.square_().mul_(present).sum(dim=1)
        return (1 - squares / (2 if form == HALF_SUM else channels)).clamp_(0, 1)


@dataclass(frozen=True)
class PseudoLabelSpec:
    """Which pseudo-labels a student learns from, and how much each counts.

    Attributes:
        selection: "entropy", "confidence", "threshold" or "everywhere"; see `more_certain`.
        threshold: For "threshold".
        similarity: Whether pseudo-labels are weighted by their reliability.
        form: "mean" as published, or "half_sum" for many classes; see `reliability`.
        min_voxels: Fewest voxels of a class in a patch that make a prototype of the reliability.

    Raises:
        TrainingError: A choice is unknown, or a value out of range.
    """

    selection: str = ENTROPY
    threshold: Share = 0.5
    similarity: bool = True
    form: str = MEAN
    min_voxels: AtLeastOne = 1

    def __post_init__(self) -> None:
        """Check the choices and ranges.

        Raises:
            TrainingError: One is unknown, or out of range.
        """
        problems = problems_of(self)
        if problems:
            msg = "The settings of the pseudo-labels do not fit."
            raise TrainingError(msg, cause=f"{'; '.join(problems)}.", next_step="Correct method_arguments.")
        require_choice("selection", self.selection, SELECTIONS)
        require_choice("form", self.form, FORMS)

    def uncertainty(self, probabilities: Tensor) -> Tensor:
        """Return the `uncertainty` (batch, *space) of probabilities (batch, classes + 1, *space)."""
        return uncertainty(probabilities, self.selection)

    def chosen(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the voxels (batch, *space), bool, by the uncertainties of both; see `more_certain`."""
        return more_certain(student, teacher, self.selection, self.threshold)

    def weights(self, features: Tensor, probabilities: Tensor, labels: Tensor | None = None) -> Tensor | None:
        """Return the `reliability` (batch, *space) of a teacher; None where all labels weigh alike."""
        if not self.similarity:
            return None
        return reliability(features, probabilities, self.form, self.min_voxels, labels)


LOSS_EPSILON = 1e-6


def reliable_cross_entropy(
    log_probabilities: Tensor, labels: Tensor, chosen: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return Σ m w CE / (Σ m + 1e-6) over the whole batch (Su et al. 2024).

    The denominator counts the chosen voxels, not their weights, so that unreliable labels count less.

    Args:
        log_probabilities: (batch, classes + 1, *space) of the student, float32.
        labels: (batch, *space), int64: the teacher's argmax.
        chosen: (batch, *space), bool: the voxels m.
        weights: (batch, *space), float32, the reliability w; None weighs all alike.

    Returns:
        Scalar, float32; 0 with zero gradients where no voxel is chosen.
    """
    each = -log_probabilities.gather(1, labels[:, None])[:, 0]
    if weights is not None:
        each = each * weights
    return each.where(chosen, 0.0).sum() / (chosen.sum() + LOSS_EPSILON)

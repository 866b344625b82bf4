"""Losses that align pixels with prototypes, and the prototypes with pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from multiorganseg_training.prototypes.assignment import ARGMAX, choose, sinkhorn, subsample
from multiorganseg_training.prototypes.banks import PrototypeBank
from multiorganseg_training.prototypes.classifier import PrototypeClassifier


@dataclass(frozen=True)
class AlignmentSpec:
    """Settings of the alignment; those of LTUDA (Jiang et al. 2024) by default.

    Attributes:
        contrast: Weight of the pixel-prototype contrast (PPC).
        distance: Weight of the pixel-prototype distance (PPD).
        iterations: Of Sinkhorn-Knopp.
        epsilon: Of Sinkhorn-Knopp.
        update: "argmax", or "gumbel" as in the published code: which pixels move which prototype.
        pixels_per_class: Most pixels of a class for PPC, PPD and the update; None takes all, as the paper.
    """

    contrast: float = 0.01
    distance: float = 0.001
    iterations: int = 3
    epsilon: float = 0.05
    update: str = ARGMAX
    pixels_per_class: int | None = None


@dataclass(frozen=True)
class AlignmentLoss:
    """Losses of one bank, scalars in float32.

    Attributes:
        cross_entropy: Of the bank's classifier against the fused labels of all pixels.
        contrast: PPC, not weighted.
        distance: PPD, not weighted.
        total: cross_entropy + weight · contrast + weight · distance.
    """

    cross_entropy: Tensor
    contrast: Tensor
    distance: Tensor
    total: Tensor


def align(
    classifier: PrototypeClassifier,
    pixels: Tensor,
    labels: Tensor,
    labelled: Tensor,
    unlabelled: Tensor,
    spec: AlignmentSpec | None = None,
    generator: torch.Generator | None = None,
    update: bool = True,
) -> tuple[AlignmentLoss, AlignmentLoss]:
    """Give the losses of both banks for one strong view, then move the prototypes.

    Both classifiers learn the fused labels of all pixels, which keeps them consistent with each other and
    with the linear one. The losses are those of the prototypes before the update.

    Args:
        classifier: Holds both banks.
        pixels: (batch · voxels, width), from `PrototypeClassifier.embed`.
        labels: (batch, *space), int64 in 0…organs: mixed fused labels.
        labelled: (batch, *space), int64: mixed `Fused.labelled`; −1 is no pixel of this bank.
        unlabelled: (batch, *space), int64: mixed `Fused.unlabelled`.
        spec: Settings.
        generator: Source of the subsampling and of gumbel draws, on the device of `pixels`.
        update: Whether the prototypes move.

    Returns:
        The losses of the labelled and of the unlabelled bank.
    """
    spec = spec or AlignmentSpec()
    truth = labels.flatten()
    losses = []
    for bank, mask in ((classifier.labelled, labelled), (classifier.unlabelled, unlabelled)):
        losses.append(_align_bank(classifier, bank, pixels, truth, mask.flatten(), spec, generator, update))
    if update:
        classifier.share_background()
    return losses[0], losses[1]


def pixel_prototype_contrast(cosines: Tensor, assigned: Tensor) -> Tensor:
    """Give the cross-entropy over the cosines with all prototypes, without a temperature (PPC).

    Args:
        cosines: (pixels, prototypes), float32.
        assigned: (pixels,), int64.

    Returns:
        Scalar, the mean; 0 with zero gradients without pixels.
    """
    total = functional.cross_entropy(cosines, assigned, reduction="sum")
    return total / max(len(assigned), 1)


def pixel_prototype_distance(cosines: Tensor, assigned: Tensor) -> Tensor:
    """Give the mean of (1 − cosine with the assigned prototype)² (PPD); shapes as in the contrast."""
    own = cosines.gather(1, assigned[:, None])
    return (1 - own).square().sum() / max(len(assigned), 1)


def _align_bank(
    classifier: PrototypeClassifier,
    bank: PrototypeBank,
    pixels: Tensor,
    truth: Tensor,
    mask: Tensor,
    spec: AlignmentSpec,
    generator: torch.Generator | None,
    update: bool,
) -> AlignmentLoss:
    with torch.autocast(pixels.device.type, enabled=False):
        similarities = bank.similarities(pixels)
        logits = classifier.class_logits(similarities)
        cross_entropy = functional.cross_entropy(logits, truth)
        classes, per_class = similarities.shape[1:]
        places = subsample(mask, spec.pixels_per_class, classes, generator)
        members, cosines = mask[places], similarities[places]
        own = cosines[torch.arange(len(places), device=places.device), members]
        shares = sinkhorn(own, members, classes, spec.iterations, spec.epsilon)
        first = members * per_class
        assigned = first + choose(shares)
        contrast = pixel_prototype_contrast(cosines.flatten(1), assigned)
        distance = pixel_prototype_distance(cosines.flatten(1), assigned)
    if update:
        moving = assigned if spec.update == ARGMAX else first + choose(shares, spec.update, generator)
        correct = logits.detach()[places].argmax(dim=1) == members
        bank.update(pixels.detach()[places[correct]], moving[correct])
    total = cross_entropy + spec.contrast * contrast + spec.distance * distance
    return AlignmentLoss(cross_entropy, contrast, distance, total)

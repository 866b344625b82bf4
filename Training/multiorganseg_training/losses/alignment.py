"""Losses that align pixels with prototypes, and which prototype of its class a pixel belongs to (LTUDA)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from multiorganseg_training.losses.known import TINY, on_grid, require_choice
from multiorganseg_training.losses.prototypes import PrototypeBank, PrototypeClassifier

ARGMAX = "argmax"
GUMBEL = "gumbel"
ASSIGNMENTS = (ARGMAX, GUMBEL)
SPARE = 1.25


@torch.no_grad()
def sinkhorn(
    cosines: Tensor, members: Tensor, classes: int, iterations: int = 3, epsilon: float = 0.05
) -> Tensor:
    """Share out the pixels of each class evenly over its prototypes (Sinkhorn-Knopp), all classes at once.

    Starts from exp(cosine / ε); each iteration gives every prototype of a class the same total, then every
    pixel the total 1. Computed in float32 outside of autocast, scaled by exp(−1 / ε) against overflow.

    Args:
        cosines: (pixels, per_class): of each pixel with the prototypes of its own class, in [−1, 1].
        members: (pixels,), int64: the class of each pixel.
        classes: How many classes there are, with background.
        iterations: How often both totals are set.
        epsilon: The lower, the harder the assignment.

    Returns:
        (pixels, per_class), float32; rows sum to 1.
    """
    with torch.autocast(cosines.device.type, enabled=False):
        shares = ((cosines.float() - 1) / epsilon).exp()
        belongs = torch.zeros((len(members), classes), device=cosines.device)
        belongs.scatter_(1, members[:, None], 1.0)
        for _ in range(iterations):
            totals = belongs.T @ shares
            shares = shares / (belongs @ totals).clamp(min=TINY)
            shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=TINY)
    return shares


@torch.no_grad()
def choose(shares: Tensor, how: str = ARGMAX, generator: torch.Generator | None = None) -> Tensor:
    """Choose a prototype for each pixel.

    Args:
        shares: (pixels, per_class), as `sinkhorn` gives them.
        how: "argmax", or "gumbel": a draw with Gumbel noise on the shares themselves, as the published code
            of LTUDA does for its update; it agrees with the argmax in about a third of the pixels only.
        generator: Source of the noise, on the device of `shares`.

    Returns:
        (pixels,), int64 in 0…per_class − 1.

    Raises:
        TrainingError: `how` is unknown.
    """
    require_choice("assignment", how, ASSIGNMENTS)
    if how == GUMBEL:
        noise = torch.empty_like(shares).exponential_(generator=generator)
        shares = shares - noise.clamp(min=TINY).log()
    return shares.argmax(dim=1)


@torch.no_grad()
def subsample(
    members: Tensor, per_class: int, classes: int, generator: torch.Generator | None = None
) -> Tensor:
    """Choose pixels at random, at most `per_class` of each class.

    Pixels are thinned to about that number first, so that only few are sorted; a class may then be left with
    slightly fewer.

    Args:
        members: (pixels,), int64: the class of each pixel; −1 is never chosen.
        per_class: Most pixels of a class.
        classes: How many classes there are, with background.
        generator: Source of all randomness, on the device of `members`.

    Returns:
        Positions in `members`, int64, not in order.
    """
    belongs = members >= 0
    counts = torch.bincount(members + 1, minlength=classes + 1)
    keep = (SPARE * per_class / counts.clamp(min=1))[members + 1]
    chance = torch.rand(members.shape, generator=generator, device=members.device)
    places = (belongs & (chance < keep)).nonzero()[:, 0]
    places = places[torch.randperm(len(places), generator=generator, device=members.device)]
    order = members[places].argsort(stable=True)
    places, left = places[order], members[places][order]
    found = torch.bincount(left, minlength=classes)
    first = found.cumsum(0) - found
    rank = torch.arange(len(left), device=members.device) - first[left]
    return places[rank < per_class]


@dataclass(frozen=True)
class AlignmentSpec:
    """Settings of the alignment; those of LTUDA (Jiang et al. 2024) by default.

    Attributes:
        contrast: Weight of the pixel-prototype contrast (PPC).
        distance: Weight of the pixel-prototype distance (PPD).
        iterations: Of Sinkhorn-Knopp.
        epsilon: Of Sinkhorn-Knopp.
        update: "argmax", or "gumbel" as in the published code: which pixels move which prototype.
        pixels_per_class: Most pixels of a class that are aligned; None takes all, as the paper. Small organs
            of a volume need a number: over all voxels the cross-entropy seldom leaves the background, and
            only pixels that a bank gets right move its prototypes.

    Raises:
        TrainingError: The update is unknown.
    """

    contrast: float = 0.01
    distance: float = 0.001
    iterations: int = 3
    epsilon: float = 0.05
    update: str = ARGMAX
    pixels_per_class: int | None = None

    def __post_init__(self) -> None:
        """Check the update.

        Raises:
            TrainingError: It is unknown.
        """
        require_choice("assignment", self.update, ASSIGNMENTS)


@dataclass(frozen=True)
class AlignmentLoss:
    """Losses of one bank, scalars in float32.

    Attributes:
        cross_entropy: Of the bank's classifier against the fused labels of all pixels given.
        contrast: PPC, not weighted.
        distance: PPD, not weighted.
        total: cross_entropy + weight · contrast + weight · distance.
    """

    cross_entropy: Tensor
    contrast: Tensor
    distance: Tensor
    total: Tensor


def align_features(
    classifier: PrototypeClassifier,
    features: Tensor,
    labels: Tensor,
    labelled: Tensor,
    unlabelled: Tensor,
    spec: AlignmentSpec | None = None,
    generator: torch.Generator | None = None,
    update: bool = True,
) -> tuple[AlignmentLoss, AlignmentLoss]:
    """Choose pixels of a strong view, as many of each class, and `align` them.

    Args:
        classifier: Holds both banks.
        features: (batch, channels, *space) of the network, or of a coarser grid over the same field.
        labels: (batch, *space), int64; this and all further ones as in `align`.
        labelled: See there.
        unlabelled: See there.
        spec: Settings.
        generator: Source of the choice and of gumbel draws, on the device of `features`.
        update: Whether the prototypes move.

    Returns:
        The losses of the labelled and of the unlabelled bank.
    """
    spec = spec or AlignmentSpec()
    features = on_grid(features, labels.shape[1:])
    labels, labelled, unlabelled = (each.flatten() for each in (labels, labelled, unlabelled))
    if spec.pixels_per_class is not None:
        classes = len(classifier.labelled.prototypes)
        places = subsample(labels, spec.pixels_per_class, classes, generator)
        labels, labelled, unlabelled = (each[places] for each in (labels, labelled, unlabelled))
        features = features.movedim(1, -1).reshape(-1, features.shape[1])[places].T[None]
    pixels = classifier.embed(features)
    return align(classifier, pixels, labels, labelled, unlabelled, spec, generator, update)


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
    """Return the losses of both banks for pixels of one strong view, then move the prototypes.

    Both classifiers learn the fused labels of all these pixels, which keeps them consistent with each other
    and with the linear one. The losses are those of the prototypes before the update.

    Args:
        classifier: Holds both banks.
        pixels: (pixels, width), from `PrototypeClassifier.embed`.
        labels: As many, of any shape, int64 in 0…organs: mixed fused labels.
        labelled: Likewise: mixed `Fused.labelled`; −1 is no pixel of this bank.
        unlabelled: Likewise: mixed `Fused.unlabelled`.
        spec: Settings, but for the number of pixels.
        generator: Source of gumbel draws, on the device of `pixels`.
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
    """Return the cross-entropy over the cosines with all prototypes, without a temperature (PPC).

    Args:
        cosines: (pixels, prototypes), float32.
        assigned: (pixels,), int64.

    Returns:
        Scalar, the mean; 0 with zero gradients without pixels.
    """
    total = functional.cross_entropy(cosines, assigned, reduction="sum")
    return total / max(len(assigned), 1)


def pixel_prototype_distance(cosines: Tensor, assigned: Tensor) -> Tensor:
    """Return the mean of (1 − cosine with the assigned prototype)² (PPD); shapes as in the contrast."""
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
        places = (mask >= 0).nonzero()[:, 0]
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

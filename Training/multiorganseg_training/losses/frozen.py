"""Losses of new organs beside a frozen network, from the few numbers that they need of its old organs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from multiorganseg_training.losses.known import (
    IGNORE,
    SOFTMAX,
    expand_known,
    on_grid,
    open_classes,
    probs,
)
from multiorganseg_training.losses.mutual import reliability
from multiorganseg_training.losses.partial import log_dice, masked_bce

HIGHEST = 1 - 1e-6
"""Of a probability, so that the logarithm of its complement stays finite."""


@dataclass(frozen=True)
class Annotation:
    """What is annotated of a batch.

    Attributes:
        labels: (batch, *space), int64; labels of organs that are not known count as not annotated.
        targets: (batch, organs, *space), int8 in {0, 1, −1}, as `tri_state` gives them.
        known: (batch, organs), or (batch, organs, *space) for mixed samples; bool.
    """

    labels: Tensor
    targets: Tensor
    known: Tensor


@dataclass(frozen=True)
class Frozen:
    """What a network, whose old organs stay as they are, says of a batch, and what is annotated in it.

    All logarithms are those of probabilities before there were new organs.

    Attributes:
        background: (batch, *space), float: log p of the background under a softmax; 0 with sigmoids.
        allowed: (batch, *space), float: log Σ p of background and old organs that the annotation leaves open;
            −∞ where it names a new organ. 0 with sigmoids.
        inside: (batch, new, *space), float: log Σ p of the old organs that lie inside a new one; −∞ where
            none does. Without voxels (*space all 1) where no old organ lies inside a new one.
        pseudo_labels: (batch, new, *space), float in [0, 1]: the largest probability of an old organ on whose
            voxels the new one cannot be, times its reliability; 0 where the new organ is annotated.
        targets: (batch, new, *space), int8 in {0, 1, −1}.
        known: (batch, new, *space), bool: whether the new organ is annotated.
        possible: (batch, new, *space), bool: whether the annotation leaves the new organ open, or names it.
        counted: (batch, *space), bool: whether some organ is annotated.
        settled: (batch, 2), float32: with sigmoids, sum of the old organs' cross-entropy, and of how many
            targets; 0 under a softmax.
    """

    background: Tensor
    allowed: Tensor
    inside: Tensor
    pseudo_labels: Tensor
    targets: Tensor
    known: Tensor
    possible: Tensor
    counted: Tensor
    settled: Tensor


@torch.no_grad()
def frozen_part(
    logits: Tensor,
    features: Tensor | None,
    annotation: Annotation,
    within: Tensor,
    activation: str,
    pseudo_labels: bool = True,
) -> Frozen:
    """Return what the losses of `new_organ_losses` need of the old organs.

    Args:
        logits: (batch, channels, *space) of the old organs alone, any floating type.
        features: (batch, width, *coarse), from which the reliability of the pseudo-labels comes (Su et al.
            2024), on their own grid; None weighs all alike.
        annotation: Of old organs and, after them, new ones.
        within: (organs, organs), bool: [t, o] says that organ t lies inside organ o.
        activation: "softmax" (channel 0 is background) or "sigmoid".
        pseudo_labels: Whether pseudo-labels from the old organs are wanted.
    """
    logits = logits.float()
    space = logits.shape[2:]
    old = logits.shape[1] - (activation == SOFTMAX)
    known = expand_known(annotation.known, len(space)).expand(-1, -1, *space)
    possible = open_classes(annotation.labels, annotation.known, within)
    total: Tensor | None = None
    background = allowed = logits.new_zeros((len(logits), *space))
    inside = logits.new_full((len(logits), known.shape[1] - old, *[1] * len(space)), -math.inf)
    settled = logits.new_zeros((len(logits), 2))
    if activation == SOFTMAX:
        total = logits.logsumexp(dim=1)
        background = logits[:, 0] - total
        allowed = _log_share(logits, possible[:, : old + 1], total)
        inner = within[:old, old:]
        if bool(inner.any()):
            parts = [_log_sum(logits[:, 1:][:, inner[:, new]]) - total for new in range(inner.shape[1])]
            inside = torch.stack(parts, dim=1)
    else:
        valid = annotation.targets[:, :old] != IGNORE
        settled = torch.stack(
            [
                torch.stack([masked_bce(own, target, weights=None) * count, count])
                for own, target, count in zip(
                    logits.split(1),
                    annotation.targets[:, :old].split(1),
                    valid.flatten(1).sum(dim=1).float(),
                    strict=True,
                )
            ]
        )
    return Frozen(
        background,
        allowed,
        inside,
        _pseudo_labels(logits, total, features, ~known[:, old:], within[old:, :old], activation)
        if pseudo_labels
        else torch.zeros_like(known[:, old:], dtype=torch.float32),
        annotation.targets[:, old:],
        known[:, old:],
        possible[:, old + 1 :],
        known.any(dim=1),
        settled,
    )


def _log_sum(logits: Tensor) -> Tensor:
    if logits.shape[1]:
        return logits.logsumexp(dim=1)
    return logits.new_full((len(logits), *logits.shape[2:]), -math.inf)


def _log_share(logits: Tensor, possible: Tensor, total: Tensor) -> Tensor:
    """Return log Σ p of the channels that are possible, computed on the voxels alone where some are not."""
    share = torch.zeros_like(total)
    some = ~possible.all(dim=1)
    left = logits.movedim(1, -1)[some].masked_fill(~possible.movedim(1, -1)[some], -math.inf)
    share[some] = left.logsumexp(dim=1) - total[some]
    return share


def _pseudo_labels(
    logits: Tensor,
    total: Tensor | None,
    features: Tensor | None,
    unknown: Tensor,
    within: Tensor,
    activation: str,
) -> Tensor:
    """Return the pseudo-labels, computed on the samples alone that do not know all new organs everywhere."""
    labels = torch.zeros_like(unknown, dtype=torch.float32)
    for sample in unknown.flatten(1).any(dim=1).nonzero()[:, 0].tolist():
        own = slice(sample, sample + 1)
        weights = 1.0 if features is None else _reliability(features[own], logits[own], activation)
        organs = logits[own, -within.shape[1] :]
        for new, inside in enumerate(within):
            if bool(inside.all()):
                continue
            largest = (organs[:, ~inside] if bool(inside.any()) else organs).amax(dim=1)
            likely = largest.sigmoid() if total is None else (largest - total[own]).exp()
            labels[own, new] = (weights * likely).where(unknown[own, new], 0.0)
    return labels


def _reliability(features: Tensor, logits: Tensor, activation: str) -> Tensor:
    """Return the reliability (batch, *space), judged on the features' grid by its cells' mean logits."""
    space = logits.shape[2:]
    if features.shape[2:] != space:
        logits = functional.interpolate(logits, size=features.shape[2:], mode="area")
    return on_grid(reliability(features, probs(logits, activation))[:, None], space)[:, 0]


def new_organ_losses(
    added: Tensor, frozen: Frozen, within: Tensor, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return three losses of the new organs, each as if all channels were at hand.

    The cross-entropy over what is annotated (`partial_cross_entropy`), the logarithmic Dice of the new
    organs (`log_dice`), and their cross-entropy with pseudo-labels from the old organs, where a
    new organ n is not annotated: the mean of −w · max_o p_o · log(1 − p_n) over these voxels and the new
    organs. Logits of old organs are constants here: a softmax needs of them no more than
    log Σ exp over all, and over those that the annotation leaves open.

    Args:
        added: (batch, new, *space): the new organs' logits, over that of the background under a softmax.
        frozen: Of the same batch.
        within: (new, new), bool, of the new organs among themselves.
        activation: "softmax" or "sigmoid".

    Returns:
        Three scalars, float32, ≥ 0; 0 with zero gradients where there is nothing of the kind.
    """
    added = added.float()
    if activation == SOFTMAX:
        logits = added + frozen.background.float()[:, None]
        total = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1).logsumexp(dim=1)
        new = logits.masked_fill(~frozen.possible, -math.inf)
        each = total - torch.cat([frozen.allowed.float()[:, None], new], dim=1).logsumexp(dim=1)
        cross_entropy = each.where(frozen.counted, 0.0).sum() / frozen.counted.sum().clamp(min=1)
        alone = (logits - total[:, None]).exp()
        likely = alone
        if frozen.inside.shape == logits.shape:
            likely = alone + (frozen.inside.float() - total[:, None]).exp()
        if bool(within.any()):
            likely = likely + torch.einsum("bt...,to->bo...", alone, within.float())
    else:
        count = (frozen.targets != IGNORE).sum()
        summed = masked_bce(added, frozen.targets) * count + frozen.settled[:, 0].sum()
        cross_entropy = summed / (count + frozen.settled[:, 1].sum()).clamp(min=1)
        alone = likely = added.sigmoid()
    unknown = ~frozen.known
    each = -frozen.pseudo_labels.float() * torch.log1p(-alone.clamp(max=HIGHEST))
    voxels = unknown.flatten(2).sum(dim=(0, 2)).clamp(min=1)
    excluded = (each.flatten(2).sum(dim=(0, 2)) / voxels).sum()
    return cross_entropy, log_dice(likely, frozen.targets, frozen.known), excluded

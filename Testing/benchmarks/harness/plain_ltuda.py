"""One step of LTUDA as its publication reads: view by view, sample by sample, class by class.

Labels are decomposed in numpy, linear and prototype outputs come from forwards of their own, and prototypes
are assigned and moved in Python loops. The numbers are those of `multiorganseg_training.methods.LTUDA`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from multiorganseg_training.data.mixing import Boxes, cross_set_partner, draw_boxes
from multiorganseg_training.losses.prototypes import PrototypeBank, PrototypeClassifier
from multiorganseg_training.methods import Batch

Array = NDArray[Any]
IGNORE = -1
THRESHOLD = 0.5
VIEWS = 2
CONTRAST, DISTANCE = 0.01, 0.001
ITERATIONS, EPSILON = 3, 0.05


@dataclass(frozen=True)
class Maps:
    """A batch in numpy: images, fused labels, annotations by channel, and the two split masks."""

    image: Array
    fused: Array
    targets: Array
    labelled: Array
    unlabelled: Array


class PlainLTUDA:
    """The step of the first stage, or with a prototype classifier of the second.

    Args:
        network: The student; the teacher starts as its copy.
        organs: How many organs there are.
        classifier: Projection and banks of the second stage.
        decay: Of the teacher.
    """

    def __init__(
        self, network: nn.Module, organs: int, classifier: PrototypeClassifier | None, decay: float = 0.999
    ) -> None:
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        self.organs = organs
        self.classifier = classifier
        self.decay = decay

    def loss(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Tensor:
        """Compute the loss of one batch and move the prototypes."""
        device = batch.image.device
        weak = self._fuse(batch)
        partner = cross_set_partner(batch.known).tolist()
        space = batch.labels.shape[1:]
        boxes = [draw_boxes(len(partner), space, generator) for _ in range(VIEWS)]
        views = [_cut_mix(weak, partner, box) for box in boxes]
        if self.classifier is None:
            return self._first_stage(network, weak, views, device)
        total = _partial_bce(network(batch.image).logits, weak.targets)
        for view in views:
            image = torch.from_numpy(view.image).to(device)
            total = total + _partial_bce(network(image).logits, _decomposed(view.fused, self.organs))
            pixels = self.classifier.embed(network(image).features)
            for bank, split in (
                (self.classifier.labelled, view.labelled),
                (self.classifier.unlabelled, view.unlabelled),
            ):
                total = total + _align(self.classifier, bank, pixels, view.fused, split)
            self.classifier.share_background()
        return total

    def follow(self, network: nn.Module) -> None:
        """Move the teacher towards the student, parameter by parameter."""
        with torch.no_grad():
            for ours, theirs in zip(self.teacher.parameters(), network.parameters(), strict=True):
                ours.mul_(self.decay).add_(theirs, alpha=1 - self.decay)
            for ours, theirs in zip(self.teacher.buffers(), network.buffers(), strict=True):
                ours.copy_(theirs)

    def _first_stage(self, network: nn.Module, weak: Maps, views: list[Maps], device: torch.device) -> Tensor:
        images = np.concatenate([weak.image, *(view.image for view in views)])
        logits = network(torch.from_numpy(images).to(device)).logits.split(len(weak.image))
        total = _partial_bce(logits[0], weak.targets)
        for view, strong in zip(views, logits[1:], strict=True):
            total = total + _partial_bce(strong, _decomposed(view.fused, self.organs))
            total = total + _partial_bce(strong, view.targets)
        return total

    @torch.no_grad()
    def _fuse(self, batch: Batch) -> Maps:
        probabilities = self.teacher(batch.image).logits.float().sigmoid().cpu().numpy()
        labels, known = batch.labels.cpu().numpy(), batch.known.cpu().numpy()
        fused, labelled, unlabelled = (np.zeros_like(labels) for _ in range(3))
        targets = np.full(probabilities.shape, IGNORE, np.float32)
        for sample in range(len(labels)):
            highest = probabilities[sample].max(axis=0)
            pseudo_label = np.where(highest >= THRESHOLD, probabilities[sample].argmax(axis=0) + 1, 0)
            for organ in range(1, self.organs + 1):
                if not known[sample, organ - 1]:
                    fused[sample][pseudo_label == organ] = organ
            truth = np.zeros(labels[sample].shape, bool)
            for organ in range(1, self.organs + 1):
                if known[sample, organ - 1]:
                    here = labels[sample] == organ
                    targets[sample, organ - 1] = here
                    fused[sample][here] = organ
                    truth |= here
            labelled[sample] = np.where(truth | (fused[sample] == 0), fused[sample], IGNORE)
            unlabelled[sample] = np.where(truth, IGNORE, fused[sample])
        return Maps(batch.image.cpu().numpy(), fused, targets, labelled, unlabelled)


def _cut_mix(weak: Maps, partner: list[int], boxes: Boxes) -> Maps:
    mixed = {name: array.copy() for name, array in vars(weak).items()}
    for sample, other in enumerate(partner):
        box = tuple(
            slice(low, low + size) for low, size in zip(boxes.low[sample], boxes.size[sample], strict=True)
        )
        for name, array in mixed.items():
            array[sample][(..., *box)] = getattr(weak, name)[other][(..., *box)]
    return Maps(**mixed)


def _decomposed(labels: Array, organs: int) -> Array:
    channels = np.zeros((len(labels), organs, *labels.shape[1:]), np.float32)
    for sample in range(len(labels)):
        for organ in range(1, organs + 1):
            channels[sample, organ - 1][labels[sample] == organ] = 1
    return channels


def _partial_bce(logits: Tensor, targets: Array) -> Tensor:
    target = torch.from_numpy(targets).to(logits.device)
    losses = []
    for organ in range(logits.shape[1]):
        valid = target[:, organ] != IGNORE
        if not bool(valid.any()):
            continue
        each = functional.binary_cross_entropy_with_logits(
            logits[:, organ].float(), target[:, organ].clamp(min=0), reduction="none"
        )
        losses.append(torch.where(valid, each, 0.0).flatten(1).mean(dim=1).sum())
    return torch.stack(losses).mean()


def _align(
    classifier: PrototypeClassifier, bank: PrototypeBank, pixels: Tensor, fused: Array, split: Array
) -> Tensor:
    truth = torch.from_numpy(fused).to(pixels.device).flatten()
    mask = torch.from_numpy(split).to(pixels.device).flatten()
    similarities = bank.similarities(pixels)
    logits = classifier.class_logits(similarities)
    classes, per_class = similarities.shape[1:]
    assigned = torch.full_like(mask, IGNORE)
    for number in range(classes):
        members = (mask == number).nonzero()[:, 0]
        if len(members):
            shares = _sinkhorn(similarities.detach()[members, number])
            assigned[members] = number * per_class + shares.argmax(dim=1)
    chosen = mask != IGNORE
    cosines = similarities.flatten(1)[chosen]
    contrast = functional.cross_entropy(cosines, assigned[chosen])
    distance = (1 - cosines.gather(1, assigned[chosen][:, None])).square().mean()
    total = functional.cross_entropy(logits, truth) + CONTRAST * contrast + DISTANCE * distance
    _move(bank, pixels.detach(), logits.detach().argmax(dim=1) == mask, assigned)
    return total


def _sinkhorn(cosines: Tensor) -> Tensor:
    shares = (cosines / EPSILON).exp()
    for _ in range(ITERATIONS):
        shares = shares / shares.sum(dim=0, keepdim=True)
        shares = shares / shares.sum(dim=1, keepdim=True)
    return shares


@torch.no_grad()
def _move(bank: PrototypeBank, pixels: Tensor, correct: Tensor, assigned: Tensor) -> None:
    classes, per_class = bank.prototypes.shape[:2]
    for number in range(classes):
        for which in range(per_class):
            mine = pixels[correct & (assigned == number * per_class + which)]
            if len(mine):
                new = functional.normalize(mine.sum(dim=0), dim=0)
                old = bank.prototypes[number, which]
                moved = bank.momentum * old + (1 - bank.momentum) * new
                bank.prototypes[number, which] = functional.normalize(moved, dim=0)

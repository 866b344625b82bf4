"""Learning further organs from a few annotated cases, held to what the network knew."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from multiorganseg.errors import TrainingError
from multiorganseg.networks.output import decoder_outputs
from multiorganseg_training.extend.log_dice import log_dice
from multiorganseg_training.extend.retention import retained_organs, retention
from multiorganseg_training.features.grid import on_grid
from multiorganseg_training.methods.method import Batch, Method, Setting, Step
from multiorganseg_training.mixing.cutmix import BoxSpec, box_mask, draw_boxes
from multiorganseg_training.mixing.mix import mix
from multiorganseg_training.mixing.partner import cross_set_partner
from multiorganseg_training.mutual.reliability import reliability
from multiorganseg_training.partial.cross_entropy import partial_cross_entropy
from multiorganseg_training.partial.dice import masked_dice
from multiorganseg_training.partial.known import annotated, known_map
from multiorganseg_training.partial.probabilities import log_probs, organ_probs, probs
from multiorganseg_training.partial.targets import full_targets, tri_state


@dataclass(frozen=True)
class View:
    """A batch with what is annotated and what the network said before, as it is or mixed.

    Attributes:
        image: (batch, 1, *space).
        labels: (batch, *space), int64.
        targets: (batch, organs, *space), int8: annotations in {0, 1, −1}.
        known: (batch, organs, *space), bool: the annotated organs of the case that shows.
        former: (batch, channels, *space): the logits of the network before, of each decoder.
        weights: (batch, *space): how reliable they are.
    """

    image: Tensor
    labels: Tensor
    targets: Tensor
    known: Tensor
    former: tuple[Tensor, ...]
    weights: Tensor


class Extend(Method):
    """New organs from their annotations, old ones from the network as it was.

    The network as it is before the first step is kept as it is. What is annotated in a case is learned by the
    cross-entropy in which organs without annotation and background are one class, and by the logarithm of the
    soft Dice: the Dice itself hardly pulls while a small organ has little probability. Of the organs that
    the network knew, those that are not annotated in a case are held by the cross-entropy with what it said,
    the new organs counted to its background, with the reliability of mutual learning (Su et al. 2024) as
    weight, and by the soft Dice with the organs that it drew, without which small ones fade among so many
    voxels of background. In a second view of each batch a box is replaced by that of a case with other
    annotations, as in LTUDA (Jiang et al. 2024), with all that is known of it: so new organs are seen in
    other bodies. Each of several decoders learns by itself and is held to itself. Batch normalisation keeps
    its statistics: those of a few patches around a new organ are not those of the bodies that the network was
    trained on.

    Args:
        setting: Its network knows the first `old_organs` organs.
        old_organs: How many organs the network knew.
        dice_weight: Weight of the logarithmic Dice over annotated organs.
        retain_weight: Weight of the losses that hold the old organs; 0 lets them go.
        similarity: Whether what the network said is weighted by its reliability.
        mixing: Whether the mixed view is added; it needs at least two cases in a batch.

    Raises:
        TrainingError: `old_organs` is not between 1 and the number of organs less one.
    """

    within: Tensor

    def __init__(
        self,
        setting: Setting,
        old_organs: int,
        dice_weight: float = 0.25,
        retain_weight: float = 4.0,
        similarity: bool = True,
        mixing: bool = True,
    ) -> None:
        super().__init__()
        if not 1 <= old_organs < setting.organs:
            msg = f"Of {setting.organs} organs the network cannot have known {old_organs}."
            raise TrainingError(msg, next_step="Name the new organs after the old ones.")
        self.activation = setting.activation
        self.old_organs = old_organs
        self.dice_weight = dice_weight
        self.retain_weight = retain_weight
        self.similarity = similarity
        self.mixing = mixing
        self.boxes = BoxSpec()
        self.former = copy.deepcopy(setting.network).requires_grad_(False)
        self.register_buffer("within", setting.within, persistent=False)

    def forward(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Step:
        """Compute the loss of one batch."""
        views = [self._view(batch)]
        if self.mixing and len(batch.image) > 1:
            views.append(self._mixed(views[0], batch.known, generator))
        _keep_statistics(network)
        outputs = decoder_outputs(network, torch.cat([view.image for view in views]))
        losses: dict[str, Tensor] = {}
        with torch.autocast(batch.image.device.type, enabled=False):
            for decoder, output in enumerate(outputs):
                for view, logits in zip(views, output.logits.split(len(batch.image)), strict=True):
                    for name, part in self._losses(view, logits, view.former[decoder]).items():
                        share = part / (len(views) * len(outputs))
                        losses[name] = losses[name] + share if name in losses else share
        loss = torch.stack(list(losses.values())).sum()
        return Step(loss, {name: part.detach() for name, part in losses.items()})

    @torch.no_grad()
    def _view(self, batch: Batch) -> View:
        self.former.eval()
        outputs = decoder_outputs(self.former, batch.image)
        weights = torch.ones_like(batch.labels, dtype=torch.float32)
        if self.similarity:
            features = on_grid(outputs[0].features, weights.shape[1:])
            weights = reliability(features, probs(outputs[0].logits, self.activation))
        return View(
            batch.image,
            batch.labels,
            tri_state(batch.labels, batch.known, within=self.within),
            known_map(batch.known, batch.labels.shape[1:]),
            tuple(output.logits.float() for output in outputs),
            weights,
        )

    @torch.no_grad()
    def _mixed(self, view: View, known: Tensor, generator: np.random.Generator) -> View:
        space = view.labels.shape[1:]
        boxes = draw_boxes(len(known), space, generator, self.boxes)
        mask = box_mask(boxes, space, known.device)
        maps = (view.image, view.labels, view.targets, view.known, view.weights, *view.former)
        image, labels, targets, organs, weights, *former = mix(mask, cross_set_partner(known).index, *maps)
        return View(image, labels, targets, organs, tuple(former), weights)

    def _losses(self, view: View, logits: Tensor, former: Tensor) -> dict[str, Tensor]:
        cross_entropy = partial_cross_entropy(logits, view.labels, view.targets, view.known, self.activation)
        organs = organ_probs(logits, self.activation)
        retained = retained_organs(view.known, self.old_organs)
        truth = annotated(view.labels, view.known)
        claims = log_probs(former, self.activation).max(dim=1).indices.masked_fill(truth, 0)
        claimed = full_targets(claims, retained.shape[1], self.within)
        return {
            "annotated": cross_entropy,
            "dice_loss": self.dice_weight * log_dice(organs, view.targets, view.known),
            "retained": self.retain_weight
            * retention(logits, former, retained, ~truth, view.weights, self.activation),
            "retained_dice_loss": self.retain_weight * masked_dice(organs, claimed, retained),
        }


def _keep_statistics(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()

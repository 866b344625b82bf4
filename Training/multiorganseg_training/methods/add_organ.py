"""Learning further organs from a few annotated cases, beside a network that stays as it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from multiorganseg.errors import TrainingError
from multiorganseg.networks.branching import Branch, BranchingNetwork
from multiorganseg.networks.output import NetworkOutput, decoder_outputs
from multiorganseg_training.data.batches import Batch
from multiorganseg_training.data.mixing import BoxSpec, box_mask, cross_set_partner, draw_boxes, mix
from multiorganseg_training.losses.known import known_map, on_grid, organ_probs, probs, tri_state
from multiorganseg_training.losses.mutual import reliability
from multiorganseg_training.losses.partial import log_dice, partial_cross_entropy
from multiorganseg_training.losses.pseudo_labels import pseudo_label_loss
from multiorganseg_training.methods.method import Method, Setting, Step


@dataclass(frozen=True)
class AnnotatedView:
    """A batch with what is annotated, as it is or mixed.

    Attributes:
        image: (batch, 1, *space).
        labels: (batch, *space), int64.
        targets: (batch, organs, *space), int8: annotations in {0, 1, −1}.
        known: (batch, organs, *space), bool: the annotated organs of the case that shows.
    """

    image: Tensor
    labels: Tensor
    targets: Tensor
    known: Tensor


class AddOrgan(Method):
    """The newest branch of a network learns its organs; all other weights are frozen.

    So what the network says of its old organs cannot change. The new ones are learned from their
    annotations by the cross-entropy in which organs without annotation and background are one class, and
    by the logarithm of the soft Dice: the Dice itself hardly pulls while a small organ has little
    probability. In cases without annotation of a new organ, what the frozen network says of its own
    organs is a pseudo-label that the new organ is absent, with the reliability of mutual learning (Su et
    al. 2024) as weight. In a second view of each batch a box is replaced by that of a case with other
    annotations, as in LTUDA (Jiang et al. 2024), with all that is known of it: so new organs are seen in
    other bodies. Beside each of several decoders the branch has one of its own, which learns by itself.
    Batch normalisation keeps its statistics: those of a few patches around a new organ are not those of
    the bodies that the network was trained on.

    Args:
        setting: Its network has a branch, whose organs are the last ones.
        dice_weight: Weight of the logarithmic Dice over annotated new organs.
        pseudo_label_weight: Largest weight of the frozen network's pseudo-labels; 0 does without them.
        similarity: Whether the pseudo-labels are weighted by their reliability.
        mixing: Whether the mixed view is added; it needs at least two cases in a batch.

    Raises:
        TrainingError: The network has no branch.
    """

    within: Tensor

    def __init__(
        self,
        setting: Setting,
        dice_weight: float = 0.25,
        pseudo_label_weight: float = 1.0,
        similarity: bool = True,
        mixing: bool = True,
    ) -> None:
        super().__init__()
        branch = newest_branch(setting.network)
        setting.network.requires_grad_(False)
        branch.requires_grad_(True)
        self.activation = setting.activation
        self.new_organs = branch.organs
        self.old_organs = setting.organs - branch.organs
        self.dice_weight = dice_weight
        self.pseudo_label_weight = pseudo_label_weight
        self.similarity = similarity
        self.mixing = mixing
        self.boxes = BoxSpec()
        self.register_buffer("within", setting.within, persistent=False)

    def forward(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Step:
        """Compute the loss of one batch."""
        views = [self._view(batch)]
        if self.mixing and len(batch.image) > 1:
            views.append(self._mixed(views[0], batch.known, generator))
        _train_the_branch_alone(network)
        outputs = decoder_outputs(network, torch.cat([view.image for view in views]))
        losses: dict[str, Tensor] = {}
        with torch.autocast(batch.image.device.type, enabled=False):
            for output in outputs:
                parts = zip(*(maps.split(len(batch.image)) for maps in output), strict=True)
                for view, part in zip(views, parts, strict=True):
                    for name, loss in self._losses(view, NetworkOutput(*part)).items():
                        share = loss / (len(views) * len(outputs))
                        losses[name] = losses[name] + share if name in losses else share
        loss = torch.stack(list(losses.values())).sum()
        return Step(loss, {name: part.detach() for name, part in losses.items()})

    def _view(self, batch: Batch) -> AnnotatedView:
        return AnnotatedView(
            batch.image,
            batch.labels,
            tri_state(batch.labels, batch.known, within=self.within),
            known_map(batch.known, batch.labels.shape[1:]),
        )

    def _mixed(self, view: AnnotatedView, known: Tensor, generator: np.random.Generator) -> AnnotatedView:
        space = view.labels.shape[1:]
        boxes = draw_boxes(len(known), space, generator, self.boxes)
        mask = box_mask(boxes, space, known.device)
        return AnnotatedView(*mix(mask, cross_set_partner(known).index, *vars(view).values()))

    def _losses(self, view: AnnotatedView, output: NetworkOutput) -> dict[str, Tensor]:
        logits, new = output.logits, slice(self.old_organs, None)
        organs = organ_probs(logits, self.activation, self.within)
        losses = {
            "annotated": partial_cross_entropy(
                logits, view.labels, view.targets, view.known, self.activation, self.within
            ),
            "dice_loss": self.dice_weight
            * log_dice(organs[:, new], view.targets[:, new], view.known[:, new]),
        }
        if self.pseudo_label_weight:
            losses["pseudo_labels"] = self.pseudo_label_weight * self._pseudo_label_loss(view, output)
        return losses

    def _pseudo_label_loss(self, view: AnnotatedView, output: NetworkOutput) -> Tensor:
        """Return the loss of the pseudo-labels, computed on patches that do not know all new organs."""
        unknown = ~view.known[:, self.old_organs :].flatten(1).all(dim=1)
        if not bool(unknown.any()):
            return torch.zeros((), device=output.logits.device)
        some = NetworkOutput(*(maps[unknown] for maps in output))
        weights, known = self._reliability(some), view.known[unknown]
        return pseudo_label_loss(some.logits, self.old_organs, known, self.within, weights, self.activation)

    @torch.no_grad()
    def _reliability(self, output: NetworkOutput) -> Tensor:
        space = output.logits.shape[2:]
        if not self.similarity:
            return torch.ones_like(output.logits[:, 0], dtype=torch.float32)
        pseudo_labels = probs(output.logits[:, : -self.new_organs], self.activation)
        return reliability(on_grid(output.features, space), pseudo_labels)


def newest_branch(network: nn.Module) -> Branch:
    """Return the branch that was put on a network last.

    Raises:
        TrainingError: It has none.
    """
    branches = network.all_branches() if isinstance(network, BranchingNetwork) else []
    if not branches:
        msg = "The method 'add_organ' needs a network with a branch for the new organs."
        raise TrainingError(
            msg, next_step="Set network.arguments.branches to how many there are, such as [1]."
        )
    return branches[-1]


def _train_the_branch_alone(network: nn.Module) -> None:
    network.eval()
    for module in newest_branch(network).modules():
        module.training = not isinstance(module, _BatchNorm)

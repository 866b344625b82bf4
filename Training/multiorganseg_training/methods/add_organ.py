"""Learning further organs from a few annotated cases, beside a network that stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from multiorganseg.errors import TrainingError
from multiorganseg.networks.branching import Branch, BranchingNetwork, Maps
from multiorganseg.schema import NotNegative
from multiorganseg_training.data.batches import Batch
from multiorganseg_training.data.mixing import BoxSpec, box_mask, cross_set_partner, draw_boxes, mix
from multiorganseg_training.losses.frozen import Annotation, Frozen, frozen_part, new_organ_losses
from multiorganseg_training.losses.known import known_map, tri_state
from multiorganseg_training.methods.method import Method, Seen, Setting, Step


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
    other bodies. Of several decoders the first one counts.

    A step has two parts. `see` runs everything that is frozen: the encoder's maps, and of the old organs'
    logits the few numbers that the losses need. `learn` trains the branch on them. What was seen may be
    kept for later steps.

    Args:
        setting: Its network has a branch, whose organs are the last ones.
        dice_weight: Weight of the logarithmic Dice over annotated new organs.
        pseudo_label_weight: Largest weight of the frozen network's pseudo-labels; 0 does without them.
        similarity: Whether the pseudo-labels are weighted by their reliability.
        mixing: Whether the mixed view is added; it needs at least two cases in a batch.

    Raises:
        TrainingError: The network has no branch.
    """

    frozen = True
    taught = True
    within: Tensor

    def __init__(
        self,
        setting: Setting,
        dice_weight: NotNegative = 0.25,
        pseudo_label_weight: NotNegative = 1.0,
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
        return self.learn(network, self.see(network, batch, generator))

    @torch.no_grad()
    def see(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Seen:
        """Run what is frozen on a batch, patch by patch, and on its mixed view.

        Returns:
            The images, what the branch reads ("maps.0" and on; see `Branch.forward`), and the tensors of
            `Frozen`, in which the patches of the mixed view follow those of the batch.
        """
        assert isinstance(network, BranchingNetwork)
        network.eval()
        views = [self._view(batch)]
        if self.mixing and len(batch.image) > 1:
            views.append(self._mixed(views[0], batch.known, generator))
        maps: list[Maps] = []
        parts: list[Frozen] = []
        for view in views:
            for image, *said in zip(*(tensor.split(1) for tensor in vars(view).values()), strict=True):
                encoded = network.encode(network.fold(image))
                maps.append((network.own_decoders()[0](encoded), *encoded))
                parts.append(self._frozen(network, image, maps[-1], Annotation(*said)))
        seen = {"image": torch.cat([view.image for view in views])}
        seen |= {f"maps.{level}": torch.cat(each) for level, each in enumerate(zip(*maps, strict=True))}
        for field in fields(Frozen):
            seen[field.name] = torch.cat([getattr(part, field.name) for part in parts])
        return seen

    def learn(self, network: nn.Module, seen: Seen) -> Step:
        """Compute the loss of the branch on what was seen of a batch; each view counts alike."""
        assert isinstance(network, BranchingNetwork)
        network.eval()
        branch = newest_branch(network)
        for module in branch.modules():
            module.training = not isinstance(module, _BatchNorm)
        levels = sum(name.startswith("maps.") for name in seen)
        maps = tuple(seen[f"maps.{level}"] for level in range(levels))
        added = network.added(seen["image"], maps, branch)
        patches = self._patches(len(added))
        names = ("annotated", "dice_loss", "pseudo_labels")
        weights = (1.0, self.dice_weight, self.pseudo_label_weight)
        losses: dict[str, Tensor] = {}
        inner = self.within[self.old_organs :, self.old_organs :]
        with torch.autocast(added.device.type, enabled=False):
            for own in patches:
                frozen = Frozen(**{field.name: seen[field.name][own] for field in fields(Frozen)})
                each = new_organ_losses(added[own], frozen, inner, self.activation)
                for name, loss, weight in zip(names, each, weights, strict=True):
                    if weight:
                        losses[name] = losses.get(name, 0.0) + weight * loss / len(patches)
        loss = torch.stack(list(losses.values())).sum()
        return Step(loss, {name: part.detach() for name, part in losses.items()})

    def _patches(self, count: int) -> list[slice]:
        """Return the patches of each view among so many: a mixed view is as large as the plain one."""
        if not self.mixing or count == 1:
            return [slice(None)]
        return [slice(0, count // 2), slice(count // 2, None)]

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
        return AnnotatedView(*mix(mask, cross_set_partner(known), *vars(view).values()))

    def _frozen(self, network: BranchingNetwork, image: Tensor, read: Maps, said: Annotation) -> Frozen:
        decoded, *encoded = read
        output = network.decode(image, tuple(encoded), [decoded], network.all_branches()[:-1])[0]
        with torch.autocast(image.device.type, enabled=False):
            features = output.features if self.similarity else None
            return frozen_part(
                output.logits, features, said, self.within, self.activation, bool(self.pseudo_label_weight)
            )


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

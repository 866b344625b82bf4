"""The union of both methods: cross-set mixing under a teacher, with reliability weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multiorganseg.errors import TrainingError
from multiorganseg.schema import AtLeastOne, AtLeastTwo, Count, NotNegative, Share
from multiorganseg_training.data.batches import Batch
from multiorganseg_training.data.mixing import SAME, BoxSpec, box_mask, cross_set_partner, draw_boxes, mix
from multiorganseg_training.losses.alignment import AlignmentSpec, align_features
from multiorganseg_training.losses.known import (
    among,
    known_map,
    log_probs,
    on_grid,
    open_classes,
    organ_probs,
    probs,
    tri_state,
)
from multiorganseg_training.losses.mutual import (
    HALF_SUM,
    MIN_VOXELS,
    PseudoLabelSpec,
    Ramp,
    reliable_cross_entropy,
)
from multiorganseg_training.losses.partial import log_dice, masked_dice, partial_cross_entropy
from multiorganseg_training.losses.prototypes import PrototypeClassifier
from multiorganseg_training.losses.pseudo_labels import fuse
from multiorganseg_training.methods.mean_teacher import follower
from multiorganseg_training.methods.method import Method, Setting, Step, torch_generator

SMOOTH = 1e-8
PSEUDO_LABELS = PseudoLabelSpec(form=HALF_SUM, min_voxels=MIN_VOXELS)


@dataclass(frozen=True)
class FusedView:
    """A batch with all that is known and believed of it, as it is or mixed.

    Attributes:
        image: (batch, 1, *space).
        labels: (batch, *space), int64: annotations and the teacher's pseudo-labels together.
        annotation: (batch, *space), int64: the annotations alone.
        weights: (batch, *space): the reliability of the teacher's pseudo-labels.
        teacher: (batch, organs + 1, *space): the teacher's probabilities, given the annotations.
        targets: (batch, organs, *space), int8: annotations in {0, 1, −1}.
        known: (batch, organs, *space), bool: the annotated organs of the case that shows.
        is_open: (batch, organs + 1, *space), bool: the classes that its annotations leave open.
        labelled: (batch, *space), int64: `Fused.labelled`.
        unlabelled: (batch, *space), int64: `Fused.unlabelled`.
    """

    image: Tensor
    labels: Tensor
    annotation: Tensor
    weights: Tensor
    teacher: Tensor
    targets: Tensor
    known: Tensor
    is_open: Tensor
    labelled: Tensor
    unlabelled: Tensor


class FusedMethod(Method):
    """LTUDA's teacher, fusion, mixing and prototypes, with the weights of mutual learning.

    A teacher that follows the network, the mean of its decoders, gives pseudo-labels where nothing is
    annotated. What annotations deny is taken out of its probabilities before they are judged. In strong views
    a box is replaced by that of a case with other annotations, with all that is believed of it. Each decoder
    learns from the annotations by soft Dice, on the batch as it is and on the strong views, and on the strong
    views by `partial_cross_entropy`. Where annotations leave it open what a voxel is, it learns the
    pseudo-label by cross-entropy, on voxels that `selection` takes, weighted by the reliability of the
    pseudo-label and by a ramp. For organs that exclude each other.

    Args:
        setting: Its network may have one decoder or several.
        dice_weight: Of the Dice losses.
        log: Whether these are the negative logarithm, which still pulls while an organ has hardly any
            probability.
        certain_weight: Of the cross-entropy of the annotations.
        pseudo_label_weight: Largest weight of the cross-entropy of the pseudo-labels.
        views: Strong views a step; 0 learns from the annotations alone.
        position: "same" or "random": where a cut box is pasted.
        teacher_decay: Of the teacher, reached by way of 1 − 1 / (t + 1).
        ramp_every: Iterations between two steps of the ramp.
        ramp_steps: How many steps until it is 1; 0 for 1 from the start.
        prototypes: Whether the first decoder's features are aligned with LTUDA's two prototype banks.
        per_class: Prototypes a class.
        width: Of the projected features.
        prototype_momentum: Of the banks.
        pixels_per_class: Most voxels a class that are aligned.
        pseudo_labels: The fields of `PseudoLabelSpec`; where they are left out, those of `PSEUDO_LABELS`.

    Raises:
        TrainingError: A choice is unknown.
    """

    within: Tensor
    iteration: Tensor

    def __init__(
        self,
        setting: Setting,
        dice_weight: NotNegative = 0.5,
        log: bool = False,
        certain_weight: NotNegative = 0.5,
        pseudo_label_weight: NotNegative = 1.0,
        views: Count = 2,
        position: str = SAME,
        teacher_decay: Share = 0.99,
        ramp_every: int = 150,
        ramp_steps: int = 40,
        prototypes: bool = False,
        per_class: AtLeastOne = 5,
        width: AtLeastOne = 64,
        prototype_momentum: Share = 0.999,
        pixels_per_class: AtLeastTwo = 4096,
        **pseudo_labels: Any,
    ) -> None:
        super().__init__()
        if views < prototypes:
            msg = f"The method 'fused' cannot align prototypes in {views} strong views."
            raise TrainingError(msg, next_step="Set method_arguments.views to 1 or more.")
        self.least_batch = 2 if views else 1
        self.activation = setting.activation
        self.dice_weight = dice_weight
        self.log = log
        self.certain_weight = certain_weight
        self.pseudo_label_weight = pseudo_label_weight
        self.views = views
        self.boxes = BoxSpec(position=position)
        self.pseudo_labels = replace(PSEUDO_LABELS, **pseudo_labels)
        self.ramp = Ramp(ramp_every, ramp_steps)
        self.teacher = follower(setting.network, teacher_decay)
        self.alignment = AlignmentSpec(pixels_per_class=pixels_per_class)
        self.classifier = (
            PrototypeClassifier(
                setting.feature_channels, setting.organs, per_class, width, prototype_momentum
            )
            if prototypes
            else None
        )
        self.register_buffer("within", setting.within, persistent=False)
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))

    def forward(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Step:
        """Compute the loss of one batch."""
        weak = self._weak(batch)
        strong = [self._mixed(weak, batch.known, generator) for _ in range(self.views)]
        output = network(torch.cat([view.image for view in (weak, *strong)]))
        decoders = [output, *getattr(output, "others", ())]
        size = len(batch.image)
        with torch.autocast(batch.image.device.type, enabled=False):
            parts: dict[str, Tensor] = {}
            for decoder in decoders:
                first, *others = decoder.logits.split(size)
                losses = {"dice_loss": self._dice(first, weak)}
                for view, logits in zip(strong, others, strict=True):
                    for name, value in self._strong(logits, view).items():
                        losses[name] = losses.get(name, 0) + value / self.views
                for name, value in losses.items():
                    parts[name] = parts.get(name, 0) + value
            logs = {name: value.detach() for name, value in parts.items()}
            beta = self.pseudo_label_weight * self.ramp.weight(int(self.iteration))
            loss = self.dice_weight * (parts["dice_loss"] + parts.get("mixed_dice_loss", 0))
            if strong:
                loss = loss + self.certain_weight * parts["cross_entropy"] + beta * parts["pseudo_labels"]
            logs["reliability"] = weak.weights.mean()
        if self.classifier is not None:
            features = output.features.split(size)[1:]
            aligned = self._align(strong, features, generator) / self.views
            logs["prototypes"] = aligned.detach()
            loss = loss + aligned
        return Step(loss, logs)

    def judge(self) -> PrototypeClassifier | None:
        """Return the prototype classifiers, where there are some."""
        return self.classifier

    @torch.no_grad()
    def after_step(self, network: nn.Module) -> None:
        """Let the teacher follow the network and count the iteration."""
        self.teacher.update_parameters(network)
        self.iteration += 1

    @torch.no_grad()
    def _weak(self, batch: Batch) -> FusedView:
        self.teacher.eval()
        every_decoder = getattr(self.teacher.module, "outputs", None)
        outputs = every_decoder(batch.image) if every_decoder else [self.teacher(batch.image)]
        with torch.autocast(batch.image.device.type, enabled=False):
            each = [probs(output.logits, self.activation) for output in outputs]
            is_open = open_classes(batch.labels, batch.known, self.within)
            teacher = among(torch.stack(each).mean(dim=0), is_open)
            each = [among(said, is_open) for said in each]
            space = batch.labels.shape[1:]
            pairs = zip(outputs, each, strict=True)
            reliable = [self.pseudo_labels.weights(on_grid(said.features, space), p) for said, p in pairs]
            found = [weights for weights in reliable if weights is not None]
            weights = torch.stack(found).mean(dim=0) if found else torch.ones_like(teacher[:, 0])
            fused = fuse(batch.labels, batch.known, teacher.max(dim=1).indices, self.within)
            return FusedView(
                batch.image,
                fused.labels,
                batch.labels,
                weights,
                teacher,
                tri_state(batch.labels, batch.known, within=self.within),
                known_map(batch.known, space),
                is_open,
                fused.labelled,
                fused.unlabelled,
            )

    @torch.no_grad()
    def _mixed(self, weak: FusedView, known: Tensor, generator: np.random.Generator) -> FusedView:
        space = weak.labels.shape[1:]
        boxes = draw_boxes(len(known), space, generator, self.boxes)
        mask = box_mask(boxes, space, known.device)
        return FusedView(*mix(mask, cross_set_partner(known), *vars(weak).values(), shift=boxes.shift))

    def _dice(self, logits: Tensor, view: FusedView) -> Tensor:
        organs = organ_probs(logits, self.activation, self.within)
        if self.log:
            return log_dice(organs, view.targets, view.known)
        return masked_dice(organs, view.targets, view.known, SMOOTH)

    def _strong(self, logits: Tensor, view: FusedView) -> dict[str, Tensor]:
        logs = log_probs(logits, self.activation)
        student = among(logs.detach().exp(), view.is_open)
        mine, theirs = map(self.pseudo_labels.uncertainty, (student, view.teacher))
        chosen = self.pseudo_labels.chosen(mine, theirs) & (view.is_open.sum(dim=1) > 1)
        return {
            "mixed_dice_loss": self._dice(logits, view),
            "cross_entropy": partial_cross_entropy(
                logits, view.annotation, view.targets, view.known, self.activation, self.within
            ),
            "pseudo_labels": reliable_cross_entropy(logs, view.labels, chosen, view.weights),
        }

    def _align(
        self, views: Sequence[FusedView], features: Sequence[Tensor], generator: np.random.Generator
    ) -> Tensor:
        assert self.classifier is not None
        draws = torch_generator(generator, features[0].device)
        total = features[0].new_zeros((), dtype=torch.float32)
        for view, feature in zip(views, features, strict=True):
            banks = align_features(
                self.classifier,
                feature,
                view.labels,
                view.labelled,
                view.unlabelled,
                self.alignment,
                draws,
                torch.is_grad_enabled(),
            )
            total = total + banks[0].total + banks[1].total
        return total

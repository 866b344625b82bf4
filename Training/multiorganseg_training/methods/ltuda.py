"""LTUDA: labelled-to-unlabelled distribution alignment (Jiang et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from multiorganseg.errors import TrainingError
from multiorganseg.schema import AtLeastOne, AtLeastTwo, Count, NotNegative, Share
from multiorganseg_training.data.batches import Batch
from multiorganseg_training.data.mixing import (
    SAME,
    BoxSpec,
    box_mask,
    carve_mask,
    cross_set_partner,
    draw_boxes,
    jitter,
    mix,
    next_partner,
    own_set_partner,
)
from multiorganseg_training.losses.alignment import ARGMAX, AlignmentSpec, align_features
from multiorganseg_training.losses.known import (
    IGNORE,
    SOFTMAX,
    full_targets,
    known_map,
    may_be,
    organ_probs,
    require_choice,
    tri_state,
)
from multiorganseg_training.losses.mutual import Ramp
from multiorganseg_training.losses.partial import SUM_BATCH, PartialLoss
from multiorganseg_training.losses.prototypes import PrototypeClassifier
from multiorganseg_training.losses.pseudo_labels import Fused, fuse, hard_labels, least_logits
from multiorganseg_training.methods.method import Method, Setting, Step, torch_generator

CUTMIX, CARVEMIX, CUTOUT, COLOUR, NO_MIXING = "cutmix", "carvemix", "cutout", "colour", "none"
CROSS_SET = "cross_set"
PARTNERS = {CROSS_SET: cross_set_partner, "next": next_partner, "own_set": own_set_partner}
TRAIN, EVAL = "train", "eval"


@dataclass(frozen=True)
class LabelledView:
    """One strong view of a batch.

    Attributes:
        image: (batch, 1, *space).
        labels: (batch, *space), int64: mixed fused labels.
        annotation: (batch, *space), int64: mixed annotations.
        known: (batch, organs, *space), bool: the annotated organs of the case that shows.
        targets: (batch, organs, *space), int8: the annotations by organ in {0, 1, −1}.
        pseudo: (batch, organs, *space), int8: mixed targets of the fused labels in {0, 1, −1}.
        labelled: (batch, *space), int64: mixed `Fused.labelled`.
        unlabelled: (batch, *space), int64: mixed `Fused.unlabelled`.
    """

    image: Tensor
    labels: Tensor
    annotation: Tensor
    known: Tensor
    targets: Tensor
    pseudo: Tensor
    labelled: Tensor
    unlabelled: Tensor


class LTUDA(Method):
    """Cross-set augmentation, and with `prototypes` also prototype alignment.

    A teacher that follows the network labels each patch; its pseudo-labels and the annotations are fused. The
    network learns from the annotations of the patch as it is, and from strong views in which a part of the
    patch is replaced by that of a case with other annotations. Without prototypes (the first stage) a strong
    view gives the binary cross-entropy of the fused labels and of the mixed annotations; with them (the
    second stage) that of the fused labels and the losses of both prototype classifiers.

    With a softmax the organs exclude each other: the annotations speak through the marginal cross-entropy and
    the exclusion of `PartialLoss`, the fused labels through the cross-entropy.

    The defaults are the settings of the paper and its published code, but for the partner, which is of
    another set where the batch has one, as the text says, and for the assignment of pixels to prototypes,
    which is the argmax.

    Args:
        setting: Its network ends in sigmoids in the paper; or in a softmax.
        prototypes: Whether prototypes are aligned.
        views: Strong views a step.
        mixing: "cutmix" or "carvemix"; or, without a partner, "cutout", which empties a box of the image,
            "colour", which changes contrast and brightness, or "none". Labels stay as they are in these.
        partner: "cross_set" takes a partner of another known set, "own_set" one of the same, "next" the next
            of the batch. What a batch does not hold cannot be taken: with two cases and "cross_set" it is the
            other one, whatever it knows.
        position: "same" or "random": where a cut box is pasted.
        reduction: Of the binary cross-entropy; see `masked_bce`.
        dice_weight: Of a soft Dice beside each cross-entropy; the paper has none, and many iterations.
        log: Whether the Dice of what is annotated is the negative logarithm, which still pulls while an organ
            has hardly any probability; pseudo-labels may be few wrong voxels, and keep the Dice itself.
        warmup: Iterations from annotations alone, while the teacher follows and nothing is mixed; the paper
            starts from a network that was trained so.
        ramp_every: Iterations between two steps of the weight of the fused labels.
        ramp_steps: How many steps until it is 1, from the end of `warmup`; 0 for 1 at once, as in the paper.
        exclusive: Whether a voxel of an annotated organ tells that it is no other organ; with a softmax it
            always does.
        exclusion_weight: As in `Partial`; softmax only.
        threshold: Of sigmoids (Eq. 2), for all organs or one for each, so that an organ that is seldom
            annotated may be a pseudo-label earlier; a softmax takes the most probable class.
        ignore: From which to which probability of the teacher it is not judged whether an organ that is not
            annotated is there: (0.1, 0.5) keeps what it half believes from being learned as background by the
            linear classifier. None judges every voxel, as the paper.
        teacher_decay: Of the teacher's exponential moving average.
        teacher_mode: "train" normalises the teacher's batches by their own statistics, "eval" by its running
            ones; of no effect on instance normalisation.
        per_class: Prototypes a class.
        width: Of the projected features.
        prototype_momentum: Of the banks.
        copy_background: Whether the labelled bank's background is a copy of the unlabelled one's.
        contrast: Weight of the pixel-prototype contrast.
        distance: Weight of the pixel-prototype distance.
        update: "argmax", or "gumbel" as in the published code.
        pixels_per_class: Most pixels a class that are aligned; None for all.

    Raises:
        TrainingError: A choice is unknown.
    """

    within: Tensor
    iteration: Tensor

    def __init__(
        self,
        setting: Setting,
        prototypes: bool = False,
        views: Count = 2,
        mixing: str = CUTMIX,
        partner: str = CROSS_SET,
        position: str = SAME,
        reduction: str = SUM_BATCH,
        dice_weight: NotNegative = 0.0,
        log: bool = False,
        warmup: Count = 0,
        ramp_every: int = 150,
        ramp_steps: int = 0,
        exclusive: bool = False,
        exclusion_weight: NotNegative = 1.0,
        threshold: float | Sequence[float] = 0.5,
        ignore: Sequence[float] | None = None,
        teacher_decay: Share = 0.999,
        teacher_mode: str = TRAIN,
        per_class: AtLeastOne = 5,
        width: AtLeastOne = 64,
        prototype_momentum: Share = 0.999,
        copy_background: bool = True,
        contrast: NotNegative = 0.01,
        distance: NotNegative = 0.001,
        update: str = ARGMAX,
        pixels_per_class: AtLeastTwo | None = None,
    ) -> None:
        super().__init__()
        require_choice("mixing", mixing, (CUTMIX, CARVEMIX, CUTOUT, COLOUR, NO_MIXING))
        require_choice("partner", partner, PARTNERS)
        require_choice("teacher_mode", teacher_mode, (TRAIN, EVAL))
        if views < 1:
            msg = f"The method 'ltuda' cannot learn from {views} strong views."
            raise TrainingError(msg, next_step="Set method_arguments.views to 1 or more.")
        self.views = views
        self.mixing = mixing
        self.least_batch = 2 if mixing in (CUTMIX, CARVEMIX) else 1
        self.choose_partner = PARTNERS[partner]
        self.boxes = BoxSpec(position=position)
        self.activation = setting.activation
        self.annotated = PartialLoss(setting.activation, dice_weight, log, exclusion_weight, reduction)
        self.pseudo = PartialLoss(setting.activation, dice_weight, reduction=reduction)
        self.warmup = warmup
        self.ramp = Ramp(ramp_every, ramp_steps)
        self.exclusive = exclusive or setting.activation == SOFTMAX
        self.threshold = threshold
        least_logits(threshold, setting.organs)
        self.ignore = _band(ignore)
        self.teacher_mode = teacher_mode
        self.teacher = AveragedModel(setting.network, multi_avg_fn=get_ema_multi_avg_fn(teacher_decay))
        self.teacher.requires_grad_(False)
        self.alignment = AlignmentSpec(
            contrast=contrast, distance=distance, update=update, pixels_per_class=pixels_per_class
        )
        self.classifier = (
            PrototypeClassifier(
                setting.feature_channels,
                setting.organs,
                per_class,
                width,
                prototype_momentum,
                copy_background,
            )
            if prototypes
            else None
        )
        self.register_buffer("within", setting.within, persistent=False)
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))

    def forward(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Step:
        """Compute the loss of one batch."""
        targets = tri_state(batch.labels, batch.known, self.exclusive, self.within)
        views = []
        if int(self.iteration) >= self.warmup:
            fused, pseudo = self._fuse(batch)
            weak = LabelledView(
                batch.image,
                fused.labels,
                batch.labels,
                known_map(batch.known, batch.labels.shape[1:]),
                targets,
                pseudo,
                fused.labelled,
                fused.unlabelled,
            )
            views = [self._mixed(weak, batch.known, generator) for _ in range(self.views)]
        output = network(torch.cat([batch.image, *(view.image for view in views)]))
        first, *strong = output.logits.split(len(batch.image))
        loss, _ = self.annotated(first, batch.labels, targets, batch.known, self.within)
        logs = {"annotated": loss.detach()}
        features = output.features.split(len(batch.image))[1:]
        for view, logits, feature in zip(views, strong, features, strict=True):
            for name, part in self._losses(view, logits, feature, generator).items():
                loss = loss + part
                logs[name] = logs.get(name, torch.zeros_like(part)) + part.detach()
        return Step(loss, logs)

    def judge(self) -> PrototypeClassifier | None:
        """Return the prototype classifiers, where there are some."""
        return self.classifier

    @torch.no_grad()
    def after_step(self, network: nn.Module) -> None:
        """Let the teacher follow the network and count the iteration."""
        self.iteration += 1
        self.teacher.update_parameters(network)

    @torch.no_grad()
    def _fuse(self, batch: Batch) -> tuple[Fused, Tensor]:
        self.teacher.train(self.teacher_mode == TRAIN)
        logits = self.teacher(batch.image).logits
        pseudo_labels = hard_labels(logits, self.activation, self.threshold)
        fused = fuse(batch.labels, batch.known, pseudo_labels, self.within)
        pseudo = full_targets(fused.labels, batch.known.shape[1], self.within)
        if self.ignore is not None:
            likely = organ_probs(logits, self.activation)
            half = (likely >= self.ignore[0]) & (likely < self.ignore[1]) & (pseudo == 0)
            possible = may_be(batch.labels, batch.known, self.within)
            pseudo = pseudo.masked_fill(half & possible, IGNORE)
        return fused, pseudo

    @torch.no_grad()
    def _mixed(self, weak: LabelledView, known: Tensor, generator: np.random.Generator) -> LabelledView:
        if self.mixing == NO_MIXING:
            return weak
        if self.mixing == COLOUR:
            return replace(weak, image=jitter(weak.image, generator))
        partners = self.choose_partner(known)
        maps, space = vars(weak).values(), weak.labels.shape[1:]
        if self.mixing == CARVEMIX:
            return LabelledView(*mix(carve_mask(weak.labels, partners, generator), partners, *maps))
        boxes = draw_boxes(len(known), space, generator, self.boxes)
        mask = box_mask(boxes, space, known.device)
        if self.mixing == CUTOUT:
            return replace(weak, image=weak.image.masked_fill(mask[:, None], 0.0))
        return LabelledView(*mix(mask, partners, *maps, shift=boxes.shift))

    def _losses(
        self, view: LabelledView, logits: Tensor, features: Tensor, generator: np.random.Generator
    ) -> dict[str, Tensor]:
        fused, _ = self.pseudo(logits, view.labels, view.pseudo, view.pseudo >= 0, self.within)
        losses = {"fused": self.ramp.weight(int(self.iteration) - self.warmup) * fused}
        if self.classifier is None:
            losses["mixed_annotated"], _ = self.annotated(
                logits, view.annotation, view.targets, view.known, self.within
            )
            return losses
        draws = torch_generator(generator, features.device)
        labelled, unlabelled = align_features(
            self.classifier,
            features,
            view.labels,
            view.labelled,
            view.unlabelled,
            self.alignment,
            draws,
            update=torch.is_grad_enabled(),
        )
        return {**losses, "labelled_bank": labelled.total, "unlabelled_bank": unlabelled.total}


def _band(ignore: Sequence[float] | None) -> tuple[float, float] | None:
    if ignore is None:
        return None
    if len(ignore) != 2 or not 0 < ignore[0] < ignore[1] <= 1:
        msg = f"The method 'ltuda' cannot ignore probabilities of {list(ignore)}."
        raise TrainingError(msg, next_step="Give two that rise, such as [0.1, 0.5].")
    return ignore[0], ignore[1]

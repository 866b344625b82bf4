"""What is known of each organ and voxel of a batch, and probabilities of background and organs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from multiorganseg.errors import TrainingError

TINY = 1e-30


def within_matrix(parents: Mapping[int, int], classes: int, device: torch.device | None = None) -> Tensor:
    """Return which organ lies inside which, such as a tumour inside the liver.

    Args:
        parents: From a channel to the channel of the organ around it; of several layers each names the next.
        classes: How many organs there are.
        device: Where the matrix lies.

    Returns:
        (classes, classes), bool: [t − 1, o − 1] is true where t lies inside o, over all layers.

    Raises:
        TrainingError: A channel is not among 1…classes or lies inside itself.
    """
    within = torch.zeros((classes, classes), dtype=torch.bool)
    for inner in parents:
        outer: int | None = inner
        for _ in range(len(parents)):
            outer = parents.get(outer) if outer is not None else None
            if outer is None:
                break
            if outer == inner or not (1 <= inner <= classes and 1 <= outer <= classes):
                msg = f"Channel {inner} cannot lie inside channel {outer}."
                raise TrainingError(msg, next_step=f"Name channels from 1 to {classes}, without a circle.")
            within[inner - 1, outer - 1] = True
    return within.to(device)


def expand_known(known: Tensor, dimensions: int) -> Tensor:
    """Return known sets a shape that broadcasts against (batch, classes, *space).

    Args:
        known: (batch, classes), or (batch, classes, *space) where samples with different known sets are
            mixed; bool.
        dimensions: Number of axes of `space`.
    """
    return known.reshape(*known.shape, *[1] * dimensions) if known.ndim == 2 else known


def known_map(known: Tensor, space: Sequence[int]) -> Tensor:
    """Spread known sets (batch, classes) over space, so that they can be mixed like images.

    Returns:
        (batch, classes, *space), bool, a view without memory of its own.
    """
    return expand_known(known, len(space)).expand(*known.shape, *space)


def annotated(labels: Tensor, known: Tensor) -> Tensor:
    """Return the voxels that belong to a known organ.

    Args:
        labels: (batch, *space), int64 in 0…classes.
        known: (batch, classes) or (batch, classes, *space), bool.

    Returns:
        (batch, *space), bool; a label of an organ that is not known is false.

    Raises:
        TrainingError: The shapes do not fit.
    """
    check_batch(labels, known)
    organ = (labels - 1).clamp(min=0)
    if known.ndim == 2:
        is_known = known.gather(1, organ.flatten(1)).reshape(labels.shape)
    else:
        is_known = known.gather(1, organ[:, None])[:, 0]
    return is_known & (labels > 0)


def hide_unknown(labels: Tensor, known: Tensor) -> Tensor:
    """Set the labels of organs that are not known to 0; shapes as in `annotated`."""
    return labels.where(annotated(labels, known), 0)


def nearest_known(known: Tensor, within: Tensor | None) -> Tensor | None:
    """Return for each organ the innermost annotated organ around it.

    Where an organ t lies inside o, and o is annotated and t is not, t can be on voxels of o alone, and a
    voxel of o may be t. Where a third organ between them is annotated too, the same holds of that one.

    Args:
        known: (batch, classes) or (batch, classes, *space), bool.
        within: (classes, classes), bool: [t, o] says that organ t lies inside organ o, over all layers.

    Returns:
        int64 of the shape of `known`: the channel of that organ, 0 where no organ around it is annotated;
        None where no organ lies inside another.
    """
    if within is None or not bool(within.any()):
        return None
    nearest = torch.zeros(known.shape, dtype=torch.int64, device=known.device)
    depth = within.sum(dim=1)
    for inner in within.any(dim=1).nonzero()[:, 0].tolist():
        around = within[inner].nonzero()[:, 0]
        for outer in around[depth[around].argsort()].tolist():
            nearest[:, inner].masked_fill_(known[:, outer], outer + 1)
    return nearest


def may_be(labels: Tensor, known: Tensor, within: Tensor | None = None) -> Tensor:
    """Return which organs that are not annotated a voxel may belong to, by what is annotated.

    Args:
        labels: (batch, *space), int64 in 0…classes; labels of organs that are not known count as not
            annotated.
        known: (batch, classes), or (batch, classes, *space) for mixed samples; bool.
        within: As in `nearest_known`.

    Returns:
        (batch, classes, *space), bool: of organs that are not known, those around which no organ is annotated
        on voxels without annotation, and the others on voxels of the innermost annotated organ around them.
    """
    dimensions = labels.ndim - 1
    annotation = hide_unknown(labels, known)[:, None]
    nearest = nearest_known(known, within)
    place = 0 if nearest is None else expand_known(nearest, dimensions)
    return ~expand_known(known, dimensions) & (annotation == place)


def open_classes(labels: Tensor, known: Tensor, within: Tensor | None = None) -> Tensor:
    """Return which classes the annotations leave open for a voxel.

    Args:
        labels: As in `may_be`.
        known: Likewise.
        within: Likewise.

    Returns:
        (batch, classes + 1, *space), bool: on annotated voxels that organ and those of `may_be`, elsewhere
        background and those of `may_be`. At least one of each voxel.
    """
    annotation = hide_unknown(labels, known)[:, None]
    classes = torch.arange(known.shape[1] + 1, device=labels.device).reshape(1, -1, *[1] * (labels.ndim - 1))
    result = annotation == classes
    result[:, 1:] |= may_be(labels, known, within)
    return result


def among(probabilities: Tensor, classes: Tensor) -> Tensor:
    """Return probabilities given that one of some classes is right.

    Args:
        probabilities: (batch, classes + 1, *space), float32.
        classes: Of the same shape, bool, at least one of each voxel; as `open_classes` gives them.

    Returns:
        Of the same shape: 0 for other classes, the sum is 1.
    """
    left = (probabilities + TINY).masked_fill(~classes, 0.0)
    return left / left.sum(dim=1, keepdim=True)


def check_batch(labels: Tensor, known: Tensor) -> None:
    """Refuse labels and known sets that cannot belong to each other.

    Raises:
        TrainingError: The batch, the space or a type differs from what is expected.
    """
    fits = known.ndim == 2 or known.shape[2:] == labels.shape[1:]
    if not fits or labels.shape[0] != known.shape[0] or known.dtype != torch.bool:
        msg = (
            f"Labels {tuple(labels.shape)} and known sets {tuple(known.shape)} of type {known.dtype} "
            "do not belong together."
        )
        raise TrainingError(msg, next_step="Give labels (batch, *space) and bool (batch, classes).")


IGNORE = -1


def tri_state(labels: Tensor, known: Tensor, exclusive: bool = True, within: Tensor | None = None) -> Tensor:
    """Return the target of each sigmoid channel (exclusion in its cross-entropy form).

    Known organ: 1 on its voxels, 0 elsewhere. Organ that is not known: with `exclusive`, 0 on the voxels of
    a known organ that excludes it and outside of a known organ around it, 1 on the voxels of a known organ
    inside it; else `IGNORE`. Without
    `exclusive` its whole channel is `IGNORE`, as in the partial-label loss of LTUDA (Jiang et al. 2024).

    Args:
        labels: (batch, *space), int64; 0 is background or not annotated, 1…classes are organs. Labels of
            organs that are not known count as not annotated.
        known: (batch, classes), bool: the organ is annotated (or absent) over the whole volume.
        exclusive: Whether a voxel of a known organ tells that it is no other organ.
        within: (classes, classes), bool: [t, o] says that organ t lies inside organ o; such pairs do not
            exclude each other. Over all layers, as `within_matrix` gives it.

    Returns:
        (batch, classes, *space), int8 in {0, 1, −1}.

    Raises:
        TrainingError: The shapes do not fit.
    """
    check_batch(labels, known)
    table = _table(known, exclusive, within)
    batch, classes = known.shape
    index = labels.flatten(1)[:, None].expand(-1, classes, -1)
    return table.gather(2, index).reshape(batch, classes, *labels.shape[1:])


def full_targets(labels: Tensor, classes: int, within: Tensor | None = None) -> Tensor:
    """Return targets as if every organ were known, such as for fused pseudo-labels.

    Args:
        labels: (batch, *space), int64 in 0…classes.
        classes: How many organs there are.
        within: As in `tri_state`.

    Returns:
        (batch, classes, *space), int8 in {0, 1}.
    """
    known = torch.ones((labels.shape[0], classes), dtype=torch.bool, device=labels.device)
    return tri_state(labels, known, within=within)


def _table(known: Tensor, exclusive: bool, within: Tensor | None) -> Tensor:
    """Return the target (batch, classes, labels) of each channel for each label value."""
    classes = known.shape[1]
    same = torch.eye(classes, dtype=torch.bool, device=known.device)
    positive = same if within is None else same | within.to(known.device)
    on_organs = positive.T[None].to(torch.int8).expand(known.shape[0], -1, -1)
    tells = known[:, None, :]
    if exclusive:
        excluded = ~(positive | positive.T)
        unknown = torch.full_like(on_organs, IGNORE)
        unknown = unknown.masked_fill(tells & excluded[None], 0)
        unknown = unknown.masked_fill(tells & (positive & ~same).T[None], 1)
    else:
        unknown = torch.full_like(on_organs, IGNORE)
    on_organs = on_organs.where(known[..., None], unknown)
    decided = known
    if exclusive and within is not None:
        decided = known | (tells & within.to(known.device)).any(dim=2)
    on_background = (decided.to(torch.int8) - 1)[..., None]
    return torch.cat([on_background, on_organs], dim=2)


SOFTMAX = "softmax"
SIGMOID = "sigmoid"
ACTIVATIONS = (SOFTMAX, SIGMOID)


def log_probs(logits: Tensor, activation: str) -> Tensor:
    """Return the logarithm of `probs`, computed without leaving log space; arguments as there."""
    logits = logits.float()
    require_choice("activation", activation, ACTIVATIONS)
    if activation == SIGMOID:
        background = functional.logsigmoid(-logits).sum(dim=1, keepdim=True)
        logits = torch.cat([background, functional.logsigmoid(logits)], dim=1)
    return torch.log_softmax(logits, dim=1)


def probs(logits: Tensor, activation: str) -> Tensor:
    """Return a distribution over background and organs.

    With sigmoids, p_0 = ∏(1 − p_c), and everything is divided by the sum.

    Args:
        logits: (batch, channels, *space), any floating type: classes + 1 channels for "softmax", classes for
            "sigmoid".
        activation: "softmax" (channel 0 is background) or "sigmoid" (no background channel).

    Returns:
        (batch, classes + 1, *space), float32, summing to 1 over the channels; channel 0 is background.

    Raises:
        TrainingError: The activation is unknown.
    """
    return log_probs(logits, activation).exp()


def organ_probs(logits: Tensor, activation: str, within: Tensor | None = None) -> Tensor:
    """Return the probability of each organ by itself (batch, classes, *space), float32.

    Softmax without its background channel, or the sigmoids as they are. With `within`, the probabilities of a
    softmax count for the organs around, too, as the targets of `tri_state` do: a voxel of a tumour in the
    liver is in the liver.

    Args:
        logits: As in `probs`.
        activation: Likewise.
        within: (classes, classes), bool: [t, o] says that organ t lies inside organ o, over all layers.
    """
    require_choice("activation", activation, ACTIVATIONS)
    if activation == SIGMOID:
        return logits.float().sigmoid()
    organs = torch.softmax(logits.float(), dim=1)[:, 1:]
    if within is None or not bool(within.any()):
        return organs
    return organs + torch.einsum("bt...,to->bo...", organs, within.float())


def require_choice(what: str, value: str, known: Collection[str]) -> None:
    """Refuse a value that is not among those that are known.

    Args:
        what: Its name in the message.
        value: What was chosen.
        known: All that may be.

    Raises:
        TrainingError: It is another one.
    """
    if value not in known:
        msg = f"No {what} '{value}'."
        raise TrainingError(msg, next_step=f"Known are {', '.join(known)}.")


MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def on_grid(features: Tensor, space: Sequence[int]) -> Tensor:
    """Interpolate features linearly to a finer grid over the same field; those on it are given back as is.

    Args:
        features: (batch, channels, *coarse), of one to three dimensions.
        space: Shape of the grid wanted.

    Returns:
        (batch, channels, *space), of the same type.
    """
    if features.shape[2:] == tuple(space):
        return features
    return functional.interpolate(features, size=tuple(space), mode=MODES[len(space)], align_corners=False)

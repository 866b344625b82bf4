"""One target for each organ and voxel: yes, no, or not to be judged."""

from __future__ import annotations

import torch
from torch import Tensor

from multiorganseg_training.partial.known import check_batch

IGNORE = -1


def tri_state(labels: Tensor, known: Tensor, exclusive: bool = True, within: Tensor | None = None) -> Tensor:
    """Give the target of each sigmoid channel (exclusion in its cross-entropy form).

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
    """Give targets as if every organ were known, such as for fused pseudo-labels.

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
    """Give the target (batch, classes, labels) of each channel for each label value."""
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
    told = known
    if exclusive and within is not None:
        told = known | (tells & within.to(known.device)).any(dim=2)
    on_background = (told.to(torch.int8) - 1)[..., None]
    return torch.cat([on_background, on_organs], dim=2)

"""Which organs are annotated in which sample of a batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from multiorganseg.errors import TrainingError


def known_matrix(sets: Sequence[Collection[int]], classes: int, device: torch.device | None = None) -> Tensor:
    """Give the known sets of a batch as a matrix.

    Args:
        sets: For each sample the channels 1…classes that are annotated (or absent) over its whole volume.
        classes: How many organs there are.
        device: Where the matrix lies.

    Returns:
        (batch, classes), bool; column c − 1 belongs to channel c.

    Raises:
        TrainingError: A channel is not among 1…classes.
    """
    wrong = sorted({channel for known in sets for channel in known if not 1 <= channel <= classes})
    if wrong:
        msg = f"The known sets name channels {wrong} of a network with {classes} organs."
        raise TrainingError(msg, next_step=f"Name channels from 1 to {classes}; 0 is background.")
    rows = [[channel in known for channel in range(1, classes + 1)] for known in sets]
    return torch.tensor(rows, dtype=torch.bool, device=device).reshape(len(rows), classes)


def within_matrix(parents: Mapping[int, int], classes: int, device: torch.device | None = None) -> Tensor:
    """Give which organ lies inside which, such as a tumour inside the liver.

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
    """Give known sets a shape that broadcasts against (batch, classes, *space).

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
    """Give the voxels that belong to a known organ.

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
    """Give for each organ the innermost annotated organ around it.

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
    """Give which organs that are not annotated a voxel may belong to, by what is annotated.

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

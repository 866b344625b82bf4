"""How reliable a pseudo-label is: where features and probabilities say the same."""

from __future__ import annotations

import torch
from torch import Tensor

from multiorganseg.errors import TrainingError
from multiorganseg_training.mutual.similarity import MIN_VOXELS, class_prototypes, similarities

HALF_SUM, MEAN = "half_sum", "mean"
FORMS = (HALF_SUM, MEAN)


@torch.no_grad()
def reliability(
    features: Tensor,
    probabilities: Tensor,
    form: str = HALF_SUM,
    min_voxels: int = MIN_VOXELS,
    labels: Tensor | None = None,
) -> Tensor:
    """Give the weight of each pseudo-label from the cosines s with the class prototypes (Su et al. 2024).

    "mean": 1 − mean_c (s_c − p_c)², as published, for two classes. "half_sum": 1 − ½ Σ_c (s_c − p_c)², not
    below 0: the same for two classes, and not diluted by the many classes that a voxel is clearly not. A
    class of fewer than `min_voxels` voxels in a volume has no prototype and no term there.

    Args:
        features: (batch, width, *space) of the teacher, any floating type, on the grid of the probabilities.
        probabilities: (batch, classes + 1, *space) of the teacher; their argmax makes the prototypes.
        form: "half_sum" or "mean".
        min_voxels: See `class_prototypes`.
        labels: (batch, *space), int64: the argmax, where it is known already.

    Returns:
        (batch, *space), float32 in [0, 1], detached.

    Raises:
        TrainingError: The form is unknown, or features and probabilities lie on different grids.
    """
    require_form(form)
    if features.shape[2:] != probabilities.shape[2:]:
        msg = f"The features {tuple(features.shape)} are not on the grid of {tuple(probabilities.shape)}."
        raise TrainingError(msg, next_step="Take a network whose features are as fine as the image: 'vnet'.")
    channels = probabilities.shape[1]
    with torch.autocast(features.device.type, enabled=False):
        features, probabilities = features.detach().float(), probabilities.detach().float()
        labels = probabilities.max(dim=1).indices if labels is None else labels
        prototypes = class_prototypes(features, labels, channels, min_voxels)
        differences = similarities(features, prototypes).sub_(probabilities)
        present = prototypes.present.reshape(*prototypes.present.shape, *[1] * (features.ndim - 2))
        squares = differences.square_().mul_(present).sum(dim=1)
        return (1 - squares / (2 if form == HALF_SUM else channels)).clamp_(0, 1)


def require_form(form: str) -> None:
    """Refuse what is not among `FORMS`.

    Raises:
        TrainingError: The form is unknown.
    """
    if form not in FORMS:
        msg = f"No form '{form}' of the reliability."
        raise TrainingError(msg, next_step=f"Known are {', '.join(FORMS)}.")

"""What a student loses against a teacher's pseudo-labels."""

from __future__ import annotations

from torch import Tensor

EPSILON = 1e-6


def reliable_cross_entropy(
    log_probabilities: Tensor, labels: Tensor, chosen: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Give Σ m w CE / (Σ m + 1e-6) over the whole batch (Su et al. 2024).

    The denominator counts the chosen voxels, not their weights, so that unreliable labels teach less.

    Args:
        log_probabilities: (batch, classes + 1, *space) of the student, float32.
        labels: (batch, *space), int64: the teacher's argmax.
        chosen: (batch, *space), bool: the voxels m.
        weights: (batch, *space), float32, the reliability w; None weighs all alike.

    Returns:
        Scalar, float32; 0 with zero gradients where no voxel is chosen.
    """
    each = -log_probabilities.gather(1, labels[:, None])[:, 0]
    if weights is not None:
        each = each * weights
    return each.where(chosen, 0.0).sum() / (chosen.sum() + EPSILON)

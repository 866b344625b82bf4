"""Which pseudo-labels: only where the teacher is more certain than the student."""

from __future__ import annotations

from torch import Tensor

from multiorganseg.errors import TrainingError

ENTROPY, CONFIDENCE, THRESHOLD, EVERYWHERE = "entropy", "confidence", "threshold", "everywhere"
SELECTIONS = (ENTROPY, CONFIDENCE, THRESHOLD, EVERYWHERE)
EPSILON = 1e-6


def entropy(probabilities: Tensor) -> Tensor:
    """Give −Σ_c p_c log(p_c + 1e-6) in nats.

    Args:
        probabilities: (batch, classes + 1, *space), float32.

    Returns:
        (batch, *space), float32.
    """
    return (probabilities + EPSILON).log_().mul_(probabilities).sum(dim=1).neg_()


def doubt(probabilities: Tensor, selection: str = ENTROPY) -> Tensor:
    """Give how uncertain each voxel is: its entropy for "entropy", else minus its largest probability.

    Args:
        probabilities: (batch, classes + 1, *space), float32.
        selection: One of `SELECTIONS`.

    Returns:
        (batch, *space), float32, for `more_certain`.

    Raises:
        TrainingError: The selection is unknown.
    """
    require_selection(selection)
    return entropy(probabilities) if selection == ENTROPY else -probabilities.amax(dim=1)


def more_certain(
    student: Tensor, teacher: Tensor, selection: str = ENTROPY, threshold: float = 0.5
) -> Tensor:
    """Give the voxels on which a student learns from a teacher.

    "entropy": the student's entropy is larger (Su et al. 2024). "confidence": its largest probability is
    smaller, which is the same with two classes and is not with more, since entropy also looks at how the rest
    is shared out. "threshold": the teacher's largest probability reaches `threshold`, whatever the student's.
    "everywhere": no choice.

    Args:
        student: (batch, *space), float32: the student's `doubt` for this selection.
        teacher: The same of the teacher.
        selection: One of `SELECTIONS`.
        threshold: For "threshold". With two classes one of them always reaches 0.5.

    Returns:
        (batch, *space), bool.

    Raises:
        TrainingError: The selection is unknown.
    """
    require_selection(selection)
    if selection in (ENTROPY, CONFIDENCE):
        return student > teacher
    return teacher <= (-threshold if selection == THRESHOLD else 0)


def require_selection(selection: str) -> None:
    """Refuse what is not among `SELECTIONS`.

    Raises:
        TrainingError: The selection is unknown.
    """
    if selection not in SELECTIONS:
        msg = f"No selection '{selection}'."
        raise TrainingError(msg, next_step=f"Known are {', '.join(SELECTIONS)}.")

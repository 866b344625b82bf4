"""A network that follows another one slowly."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def follower(network: nn.Module, decay: float) -> AveragedModel:
    """Give a teacher: the exponential moving average of a network, its running statistics included.

    The decay rises as 1 − 1 / (t + 1) until it reaches `decay`, so that the teacher forgets the random start.

    Args:
        network: Copied as it is now; `update_parameters(network)` lets the teacher follow.
        decay: In [0, 1).
    """

    def average(teacher: Tensor, now: Tensor, updates: Tensor | int) -> Tensor:
        if not teacher.is_floating_point():
            return now
        return teacher.lerp(now, max(1 / (float(updates) + 1), 1 - decay))

    followed = AveragedModel(network, avg_fn=average, use_buffers=True)
    followed.requires_grad_(False)
    return followed

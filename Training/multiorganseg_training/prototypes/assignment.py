"""Which prototype of its class a pixel belongs to."""

from __future__ import annotations

import torch
from torch import Tensor

from multiorganseg.errors import TrainingError

ARGMAX = "argmax"
GUMBEL = "gumbel"
TINY = 1e-30
SPARE = 1.25


@torch.no_grad()
def sinkhorn(
    cosines: Tensor, members: Tensor, classes: int, iterations: int = 3, epsilon: float = 0.05
) -> Tensor:
    """Share out the pixels of each class evenly over its prototypes (Sinkhorn-Knopp), all classes at once.

    Starts from exp(cosine / ε); each iteration gives every prototype of a class the same total, then every
    pixel the total 1. Computed in float32 outside of autocast, scaled by exp(−1 / ε) against overflow.

    Args:
        cosines: (pixels, per_class): of each pixel with the prototypes of its own class, in [−1, 1].
        members: (pixels,), int64: the class of each pixel.
        classes: How many classes there are, with background.
        iterations: How often both totals are set.
        epsilon: The lower, the harder the assignment.

    Returns:
        (pixels, per_class), float32; rows sum to 1.
    """
    with torch.autocast(cosines.device.type, enabled=False):
        shares = ((cosines.float() - 1) / epsilon).exp()
        belongs = torch.zeros((len(members), classes), device=cosines.device)
        belongs.scatter_(1, members[:, None], 1.0)
        for _ in range(iterations):
            totals = belongs.T @ shares
            shares = shares / (belongs @ totals).clamp(min=TINY)
            shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=TINY)
    return shares


@torch.no_grad()
def choose(shares: Tensor, how: str = ARGMAX, generator: torch.Generator | None = None) -> Tensor:
    """Choose a prototype for each pixel.

    Args:
        shares: (pixels, per_class), as `sinkhorn` gives them.
        how: "argmax", or "gumbel": a draw with Gumbel noise on the shares themselves, as the published code
            of LTUDA does for its update; it agrees with the argmax in about a third of the pixels only.
        generator: Source of the noise, on the device of `shares`.

    Returns:
        (pixels,), int64 in 0…per_class − 1.

    Raises:
        TrainingError: `how` is unknown.
    """
    if how == GUMBEL:
        noise = torch.empty_like(shares).exponential_(generator=generator)
        shares = shares - noise.clamp(min=TINY).log()
    elif how != ARGMAX:
        msg = f"No assignment '{how}'."
        raise TrainingError(msg, next_step=f"Known are {ARGMAX} and {GUMBEL}.")
    return shares.argmax(dim=1)


@torch.no_grad()
def subsample(
    members: Tensor, per_class: int | None, classes: int, generator: torch.Generator | None = None
) -> Tensor:
    """Choose pixels at random, at most `per_class` of each class.

    Pixels are thinned to about that number first, so that only few are sorted; a class may then be left with
    slightly fewer.

    Args:
        members: (pixels,), int64: the class of each pixel; −1 is never chosen.
        per_class: Most pixels of a class; None takes all.
        classes: How many classes there are, with background.
        generator: Source of all randomness, on the device of `members`.

    Returns:
        Positions in `members`, int64, not in order.
    """
    belongs = members >= 0
    if per_class is None:
        return belongs.nonzero()[:, 0]
    counts = torch.bincount(members + 1, minlength=classes + 1)
    keep = (SPARE * per_class / counts.clamp(min=1))[members + 1]
    chance = torch.rand(members.shape, generator=generator, device=members.device)
    places = (belongs & (chance < keep)).nonzero()[:, 0]
    places = places[torch.randperm(len(places), generator=generator, device=members.device)]
    order = members[places].argsort(stable=True)
    places, left = places[order], members[places][order]
    found = torch.bincount(left, minlength=classes)
    first = found.cumsum(0) - found
    rank = torch.arange(len(left), device=members.device) - first[left]
    return places[rank < per_class]

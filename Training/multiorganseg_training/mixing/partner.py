"""Which sample is pasted into which."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Partners:
    """The partner of each sample of a batch.

    Attributes:
        index: (batch,), int64.
        crossed: (batch,), bool: the partner's known set is another one.
        reason: Why not every pair is crossed; empty where it is.
    """

    index: Tensor
    crossed: Tensor
    reason: str = ""


def next_partner(known: Tensor) -> Partners:
    """Pair each sample with the next one, as the published code of LTUDA does; known sets may be equal.

    Args:
        known: (batch, classes), bool.
    """
    index = torch.arange(len(known), device=known.device).roll(-1)
    crossed = (known != known[index]).any(dim=1)
    reason = "" if bool(crossed.all()) else "The next sample has the same known set."
    return Partners(index, crossed, reason)


def cross_set_partner(known: Tensor) -> Partners:
    """Pair each sample with one of another known set.

    Samples are ordered by known set, the most frequent first, and each is paired with the one as many places
    on as the most frequent set has samples. Where no set has more than half of the batch, every sample is a
    partner once; else the samples of the other sets are partners several times.

    Args:
        known: (batch, classes), bool, of a shuffled batch.

    Returns:
        Partners of other sets, or those of `next_partner` with the reason where there is one set only.
    """
    groups: dict[tuple[bool, ...], list[int]] = defaultdict(list)
    for sample, row in enumerate(known.tolist()):
        groups[tuple(row)].append(sample)
    if len(groups) < 2:
        next_one = next_partner(known)
        return Partners(next_one.index, next_one.crossed, "All samples of the batch have the same known set.")
    ordered = [sample for group in sorted(groups.values(), key=len, reverse=True) for sample in group]
    largest = max(len(group) for group in groups.values())
    others = len(ordered) - largest
    index = [0] * len(ordered)
    for place, sample in enumerate(ordered):
        if largest > others and place < largest:
            to = largest + place % others
        else:
            to = (place + largest) % len(ordered)
        index[sample] = ordered[to]
    partners = torch.tensor(index, dtype=torch.int64, device=known.device)
    return Partners(partners, torch.ones(len(index), dtype=torch.bool, device=known.device))

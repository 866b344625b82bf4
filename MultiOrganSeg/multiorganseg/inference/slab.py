"""Weighted sums of probabilities over the planes that windows still touch, and how uncertain they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multiorganseg.inference.windows import WindowPlan, centre_weights

SMALLEST_PROBABILITY = 1e-12


def uncertainty(mean: Tensor, activation: str) -> Tensor:
    """Return the entropy of the decoders' mean probability in bits, at most 1.

    With m_c the mean of the decoders' probabilities for class c: u = min(1, −Σ_c m_c log₂ m_c) (Shannon). It
    is 0 where all decoders are certain of one class, and 1 where the mean is as open as a coin between two
    classes, be it because each decoder hesitates or because they contradict each other. So it holds both:
    for two decoders u is never less than their total-variation distance d = ½ Σ_c |p_1c − p_2c|. (Let A be
    the classes that p_1 holds for likelier, so that p_1(A) − p_2(A) = d. The entropy is at least that of A
    against the rest, which is at least 2 min(m(A), 1 − m(A)) ≥ d.)

    Mutual information, the entropy of the mean less the mean entropy, would be blind where both hesitate
    alike. Divided by the logarithm of the number of classes, the same uncertainty between two classes would
    count 1 in a network of one organ and 0.26 in one of thirteen. Under "sigmoid" each organ has two classes
    of its own, it or not it, and the organ that is least certain counts. A network with one decoder shows its
    own hesitation alone.

    Decoders that differ in how they enlarge, and entropy as the mark of what is reliable, are those of mutual
    learning (Su et al. 2024).

    Args:
        mean: Tensor (..., channels) in [0, 1]. Channel 0 is background; it does not count under "sigmoid".
        activation: "softmax" or "sigmoid".

    Returns:
        Tensor (...) in [0, 1].
    """
    if activation != "softmax":
        organs = mean[..., 1:]
        bits = (_entropy(organs) + _entropy(1 - organs)).amax(dim=-1)
    else:
        bits = _entropy(mean).sum(dim=-1)
    return bits.clamp_(0, 1)


def _entropy(probabilities: Tensor) -> Tensor:
    return probabilities * probabilities.clamp_min(SMALLEST_PROBABILITY).log_().mul_(-1 / math.log(2))


def describe(decoders: int) -> str:
    """Return for the provenance how a map was made."""
    if decoders == 1:
        return "entropy in bits, at most 1, of the probabilities; the network has one decoder"
    return f"entropy in bits, at most 1, of the mean probabilities of {decoders} decoders"


SIGMOID_THRESHOLD = 0.5
NUMBERS_AT_ONCE = 2**21
MANY_CHANNELS = 32


class Slab:
    """As many planes as a window is deep: sums of the first decoder, and of all others together.

    Args:
        plan: The windows.
        channels: Background and organs.
        decoders: How many decoders answer.
        activation: "softmax", "sigmoid" or "regions"; "logits" sums what the network gives.
        device: Where the sums lie.
        weights: Of a window's voxels (k, j, i); `centre_weights` when None.
        kind: In which the sums are kept.
    """

    def __init__(
        self,
        plan: WindowPlan,
        channels: int,
        decoders: int,
        activation: str,
        device: torch.device,
        weights: NDArray[np.float32] | None = None,
        kind: torch.dtype = torch.float32,
    ) -> None:
        shape = (plan.window[0], *plan.shape[1:])
        self._scores = torch.zeros((*shape, channels), device=device, dtype=kind)
        self._others = torch.zeros((*shape, channels), device=device) if decoders > 1 else None
        self._decoders = decoders
        self._totals = torch.zeros(shape, device=device, dtype=kind)
        chosen = centre_weights(plan.window) if weights is None else weights
        self._weights = torch.from_numpy(chosen).to(device)
        self._window = plan.window
        self._activation = activation

    def add(self, corner: tuple[int, int], logits: Sequence[Tensor]) -> None:
        """Add a window's answers.

        Args:
            corner: First voxel (j, i) of the window.
            logits: Of each decoder, (channels, k, j, i).
        """
        where = self._where(corner)
        first, *others = logits
        add_window(self._scores[where], first, self._weights, self._activation)
        if self._others is not None:
            for other in others:
                add_window(self._others[where], other, self._weights, self._activation)
        self._totals[where].add_(self._weights)

    def add_air(self, corner: tuple[int, int]) -> None:
        """Add a window that is background for every decoder."""
        where = self._where(corner)
        background = 1.0 if self._activation == "softmax" else SIGMOID_THRESHOLD
        self._scores[where][..., 0].add_(self._weights, alpha=background)
        if self._others is not None:
            self._others[where][..., 0].add_(self._weights, alpha=background * (self._decoders - 1))
        self._totals[where].add_(self._weights)

    def labels(self, planes: int) -> tuple[Tensor, Tensor]:
        """Return the first decoder's labels in the first planes, and their probability in [0, 1]."""
        scores, totals = self._scores[:planes], self._totals[:planes]
        best, winner = scores.max(dim=-1)
        if self._activation == "regions":
            numbers = torch.arange(scores.shape[-1], device=scores.device)
            winner = torch.where(scores > scores[..., :1], numbers, 0).amax(dim=-1)
            best = scores.gather(-1, winner[..., None])[..., 0]
        best = best / totals
        if self._activation != "softmax":
            best = torch.where(winner == 0, 1 - scores[..., 1:].amax(dim=-1) / totals, best)
        return winner, best.clamp_(0, 1)

    def mean(self, planes: int) -> Tensor:
        """Return the first decoder's weighted mean (planes, j, i, channels) in the first planes."""
        return (self._scores[:planes] / self._totals[:planes][..., None]).float()

    def uncertainty(self, planes: int) -> Tensor:
        """Return the uncertainty in the first planes, in [0, 1], a few of them at a time to save memory."""
        at_once = max(1, NUMBERS_AT_ONCE // self._scores[0].numel())
        parts = [slice(first, min(first + at_once, planes)) for first in range(0, planes, at_once)]
        return torch.cat([self._uncertainty(part) for part in parts])

    def _uncertainty(self, part: slice) -> Tensor:
        sums = self._scores[part] if self._others is None else self._scores[part] + self._others[part]
        return uncertainty(sums / (self._decoders * self._totals[part][..., None]), self._activation)

    def shift(self, planes: int) -> None:
        """Drop the first planes; as many empty ones follow at the end."""
        for summed in (self._scores, self._totals, *([] if self._others is None else [self._others])):
            kept = len(summed) - planes
            for start in range(0, kept, planes):
                size = min(planes, kept - start)
                summed[start : start + size] = summed[start + planes : start + planes + size]
            summed[kept:] = 0

    def _where(self, corner: tuple[int, int]) -> tuple[slice, slice, slice]:
        j, i = corner
        return slice(None), slice(j, j + self._window[1]), slice(i, i + self._window[2])


def add_window(scores: Tensor, logits: Tensor, weights: Tensor, activation: str) -> None:
    """Add a window's weighted probabilities to the scores (k, j, i, channels).

    A few planes at a time and with the channels innermost, where a network in channels-last memory leaves
    them, the numbers stay in the cache: with 105 channels five times as fast as whole windows with channels
    outermost.
    """
    innermost = logits.movedim(0, -1)
    planes = max(1, NUMBERS_AT_ONCE // innermost[0].numel())
    parts = zip(innermost.split(planes), scores.split(planes), weights.split(planes), strict=True)
    for part, total, weight in parts:
        shares = probabilities(part.contiguous(), activation).to(total.device)
        if total.dtype == torch.float32:
            total.addcmul_(shares, weight[..., None])
        else:
            total.add_(shares.mul_(weight[..., None]))


def probabilities(logits: Tensor, activation: str) -> Tensor:
    """Return probabilities (..., channels) of background and organs from logits (..., channels).

    Under "sigmoid" and "regions" the logits have no background: its channel is the threshold that an organ
    must pass. Under "logits" they are given as they are.
    """
    if activation == "logits":
        return logits.float()
    if activation == "softmax":
        return _softmax(logits.float())
    organs = torch.sigmoid(logits.float())
    background = torch.full_like(organs[..., :1], SIGMOID_THRESHOLD)
    return torch.cat([background, organs], dim=-1)


def _softmax(logits: Tensor) -> Tensor:
    """Return torch's softmax over the last axis; for a dozen channels in a fourth of its time on a CPU."""
    if logits.shape[-1] >= MANY_CHANNELS:
        return torch.softmax(logits, dim=-1)
    powers = (logits - logits.amax(dim=-1, keepdim=True)).exp_()
    sums = powers @ torch.ones(powers.shape[-1], device=powers.device)
    return powers.div_(sums[..., None])

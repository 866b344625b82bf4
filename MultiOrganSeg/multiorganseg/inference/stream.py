"""Sliding-window prediction whose memory is bounded by classes × one slab of windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multiorganseg.inference.windows import WindowPlan, centre_weights
from multiorganseg.progress import Progress

Predict = Callable[[Tensor], Tensor]

AIR_TOLERANCE = 0.02
SIGMOID_THRESHOLD = 0.5
NUMBERS_AT_ONCE = 2**21
MANY_CHANNELS = 32


@dataclass(frozen=True, eq=False)
class StreamedLabels:
    """The argmax on the network's grid.

    Attributes:
        labels: uint8 or uint16 (k, j, i): 0 for background, else the number of the organ, from 1.
        confidence: uint8 (k, j, i): probability of the label, 0…255 for 0…1.
        windows: Number of windows that the network saw; those in air are not among them.
    """

    labels: NDArray[np.unsignedinteger]
    confidence: NDArray[np.uint8]
    windows: int


def stream_labels(
    predict: Predict,
    image: NDArray[np.float32],
    plan: WindowPlan,
    organs: int,
    *,
    activation: str,
    air: float | None,
    batch_size: int,
    network_device: torch.device,
    device: torch.device,
    progress: Progress,
) -> StreamedLabels:
    """Run the network window by window and finish each plane as soon as no window will touch it again.

    Probabilities of overlapping windows are averaged with Gaussian weights. Windows that hold nothing but
    air count as background without asking the network.

    Args:
        predict: Takes (batch, 1, k, j, i) float32 on `network_device`, gives logits of the same shape but for
            the channels.
        image: (k, j, i), normalised.
        plan: Windows for the image's shape.
        organs: Number of organs: one channel less than the logits have under softmax.
        activation: "softmax" (channel 0 is background) or "sigmoid" (background where no organ reaches 0.5:
            LTUDA, Eq. 2).
        air: Normalised intensity of air; None asks the network for every window.
        batch_size: Windows given to `predict` at once.
        network_device: Where `predict` runs.
        device: Where the probabilities of a slab are summed.
        progress: Told after each batch.
    """
    padding = [(0, padded - size) for padded, size in zip(plan.shape, image.shape, strict=True)]
    padded = np.pad(image, padding, constant_values=float(image.min()) if air is None else air)
    source = torch.from_numpy(padded)
    weights = torch.from_numpy(centre_weights(plan.window)).to(device)
    depth = plan.window[0]
    scores = torch.zeros((depth, *plan.shape[1:], organs + 1), device=device)
    totals = torch.zeros((depth, *plan.shape[1:]), device=device)
    labels = np.zeros(plan.shape, np.uint8 if organs < 256 else np.uint16)
    confidence = np.zeros(plan.shape, np.uint8)
    background = 1.0 if activation == "softmax" else SIGMOID_THRESHOLD
    corners = [(j, i) for j in plan.starts[1] for i in plan.starts[2]]
    asked = done = 0

    for number, k in enumerate(plan.starts[0]):
        for first in range(0, len(corners), batch_size):
            spots = corners[first : first + batch_size]
            crops = [source[k : k + depth, j : j + plan.window[1], i : i + plan.window[2]] for j, i in spots]
            busy = [air is None or float(crop.max()) > air + AIR_TOLERANCE for crop in crops]
            predicted = iter(())
            if any(busy):
                chosen = torch.stack([crop for crop, is_busy in zip(crops, busy, strict=True) if is_busy])
                predicted = iter(predict(chosen[:, None].to(network_device)))
                asked += len(chosen)
            for (j, i), is_busy in zip(spots, busy, strict=True):
                where = (slice(None), slice(j, j + plan.window[1]), slice(i, i + plan.window[2]))
                if is_busy:
                    add_window(scores[where], next(predicted), weights, activation)
                else:
                    scores[where][..., 0].add_(weights, alpha=background)
                totals[where].add_(weights)
            done += len(spots)
            progress("segmenting", done / plan.count)
        end = plan.starts[0][number + 1] if number + 1 < len(plan.starts[0]) else plan.shape[0]
        finished = end - k
        best, winner = _winner(scores[:finished], totals[:finished], activation)
        labels[k:end] = winner.cpu().numpy()
        confidence[k:end] = best.mul_(255).round_().to(torch.uint8).cpu().numpy()
        _shift(scores, finished)
        _shift(totals, finished)
    inside = tuple(slice(0, size) for size in image.shape)
    return StreamedLabels(labels[inside], confidence[inside], asked)


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
        total.addcmul_(_probabilities(part.contiguous(), activation).to(total.device), weight[..., None])


def _probabilities(logits: Tensor, activation: str) -> Tensor:
    if activation == "softmax":
        return _softmax(logits.float())
    organs = torch.sigmoid(logits.float())
    background = torch.full_like(organs[..., :1], SIGMOID_THRESHOLD)
    return torch.cat([background, organs], dim=-1)


def _softmax(logits: Tensor) -> Tensor:
    """Give torch's softmax over the last axis; for a dozen channels in a fourth of its time on a CPU."""
    if logits.shape[-1] >= MANY_CHANNELS:
        return torch.softmax(logits, dim=-1)
    powers = (logits - logits.amax(dim=-1, keepdim=True)).exp_()
    sums = powers @ torch.ones(powers.shape[-1], device=powers.device)
    return powers.div_(sums[..., None])


def _winner(scores: Tensor, totals: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    best, winner = scores.max(dim=-1)
    best = best / totals
    if activation == "sigmoid":
        best = torch.where(winner == 0, 1 - scores[..., 1:].amax(dim=-1) / totals, best)
    return best.clamp_(0, 1), winner


def _shift(summed: Tensor, planes: int) -> None:
    kept = len(summed) - planes
    for start in range(0, kept, planes):
        size = min(planes, kept - start)
        summed[start : start + size] = summed[start + planes : start + planes + size]
    summed[kept:] = 0

"""Sliding windows as another program lays them, with labels restored as it does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multiorganseg.bundles import Metadata
from multiorganseg.bundles.original import Original
from multiorganseg.geometry.zoom import Shape
from multiorganseg.inference.original_space import OriginalSpace
from multiorganseg.inference.restore_interpolated import InterpolatedLabels, winners
from multiorganseg.inference.slab import Slab, probabilities, uncertainty
from multiorganseg.inference.stream import Predict, StreamedLabels, as_bytes, run_windows
from multiorganseg.inference.windows import (
    WindowPlan,
    delta_weights,
    gaussian_weights,
    plan_fixed_windows,
    plan_windows,
)
from multiorganseg.progress import Progress

_PLANS = {"even": plan_windows, "fixed": plan_fixed_windows}
_WEIGHTS = {
    "centred_delta": delta_weights,
    "gaussian": gaussian_weights,
    "constant": lambda window: np.ones(window, np.float32),
}


@dataclass(frozen=True, eq=False)
class OriginalLabels:
    """What a network of another program sees in a case.

    Attributes:
        streamed: On the network's grid, in its axes.
        labels: On the cropped box of the input, in the network's axes.
    """

    streamed: StreamedLabels
    labels: NDArray[np.unsignedinteger]


def plan_original(shape: Shape, window: Shape, original: Original) -> WindowPlan:
    """Lay the windows as the program does."""
    return _PLANS[original.step](shape, window, original.overlap)


def stream_original(
    predict: Predict,
    image: NDArray[np.float32],
    space: OriginalSpace,
    metadata: Metadata,
    *,
    batch_size: int,
    network_device: torch.device,
    device: torch.device,
    progress: Progress,
    uncertain: bool = False,
) -> OriginalLabels:
    """Run the network window by window, average its logits, and restore labels plane by plane.

    Args:
        predict: As for `stream_labels`; the logits of the bundle's networks stand one after the other.
        image: (channel, k, j, i), normalised, in the network's axes.
        space: Where the image comes from.
        metadata: Of the bundle, with its `preprocessing.original`.
        batch_size: As for `stream_labels`.
        network_device: As for `stream_labels`.
        device: Where the logits of a slab are summed.
        progress: Reports after each batch.
        uncertain: Whether to map the uncertainty.
    """
    original, activation = metadata.preprocessing.original, metadata.activation
    assert original is not None
    plan = plan_original(space.shape, metadata.patch_shape, original)
    before = [(padded - size) // 2 for padded, size in zip(plan.shape, space.shape, strict=True)]
    around = [
        (low, padded - size - low) for low, padded, size in zip(before, plan.shape, space.shape, strict=True)
    ]
    sums = torch.float16 if original.half_precision else torch.float32
    weights = _WEIGHTS[original.weights](plan.window)
    slab = Slab(plan, metadata.channels * original.folds, 1, "logits", device, weights, sums)
    kind = np.uint8 if len(metadata.labels.organs) < 256 else np.uint16
    labels = np.zeros(space.shape, kind)
    confidence = np.zeros(space.shape, np.uint8)
    uncertainties = np.zeros(space.shape, np.uint8) if uncertain else None
    soft = original.restore == "probabilities"
    restored = InterpolatedLabels(space.back, activation, kind, 0.5 if soft else 0.0, sums)
    inside = (slice(before[1], before[1] + space.shape[1]), slice(before[2], before[2] + space.shape[2]))
    asked = 0
    for part in run_windows(
        predict,
        np.pad(image, [(0, 0), *around], mode="edge" if original.padding == "edge" else "constant"),
        plan,
        slab,
        air=None,
        batch_size=batch_size,
        network_device=network_device,
        progress=progress,
    ):
        asked = part.asked
        scores = slab.mean(part.stop - part.start)[:, inside[0], inside[1]]
        logits = _over_folds(scores, original.folds, sums)
        for plane, number in zip(logits, range(part.start - before[0], part.stop - before[0]), strict=True):
            if not 0 <= number < space.shape[0]:
                continue
            winner, shares = winners(plane, activation), probabilities(plane, activation)
            labels[number] = winner.cpu().numpy()
            confidence[number] = as_bytes(_confidence(shares, winner, activation))
            if uncertainties is not None:
                uncertainties[number] = as_bytes(uncertainty(shares, activation))
            if original.restore != "labels":
                restored.add(number, _interpolated(shares, activation, plane, soft).cpu(), labels[number])
    if original.restore == "labels":
        k, j, i = (place.nearest() for place in space.back)
        final = labels[k][:, j][:, :, i]
    else:
        final = restored.labels
    return OriginalLabels(StreamedLabels(labels, confidence, asked, uncertainties), final)


def _over_folds(scores: Tensor, folds: int, kind: torch.dtype) -> Tensor:
    """Average the networks' logits (..., folds · channels) as numbers of a kind."""
    first, *others = scores.to(kind).unflatten(-1, (folds, -1)).unbind(-2)
    total = first.clone()
    for other in others:
        total += other
    return (total / folds).float()


def _interpolated(shares: Tensor, activation: str, logits: Tensor, soft: bool) -> Tensor:
    if not soft:
        return logits
    return shares if activation == "softmax" else shares[..., 1:]


def _confidence(shares: Tensor, winner: Tensor, activation: str) -> Tensor:
    best = shares.gather(-1, winner[..., None])[..., 0]
    if activation == "softmax":
        return best
    return torch.where(winner == 0, 1 - shares[..., 1:].amax(dim=-1), best).clamp_(0, 1)

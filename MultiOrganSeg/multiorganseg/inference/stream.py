"""Sliding-window prediction whose memory is bounded by classes × one slab of windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multiorganseg.inference.maps import MapRecorder
from multiorganseg.inference.slab import Slab
from multiorganseg.inference.windows import WindowPlan
from multiorganseg.progress import Progress, Stage

Predict = Callable[[Tensor], Sequence[Tensor]]

AIR_TOLERANCE = 0.02


@dataclass(frozen=True, eq=False)
class StreamedLabels:
    """The argmax on the network's grid.

    Attributes:
        labels: uint8 or uint16 (k, j, i): 0 for background, else the number of the organ, from 1.
        confidence: uint8 (k, j, i): probability of the label, 0…255 for 0…1.
        windows: Number of windows that the network saw; those in air are not among them.
        uncertainty: uint8 (k, j, i), 0…255 for 0…1; None when it was not asked for. See
            `multiorganseg.inference.uncertainty`.
    """

    labels: NDArray[np.unsignedinteger]
    confidence: NDArray[np.uint8]
    windows: int
    uncertainty: NDArray[np.uint8] | None = None


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
    decoders: int = 1,
    uncertain: bool = False,
    recorder: MapRecorder | None = None,
) -> StreamedLabels:
    """Run the network window by window and finish each plane as soon as no window will touch it again.

    Probabilities of overlapping windows are averaged with Gaussian weights. Windows that hold nothing but
    air count as background without asking the network. Labels are the first decoder's, whatever the others
    say.

    Args:
        predict: Takes (batch, 1, k, j, i) float32 on `network_device`, gives logits of the same shape but for
            the channels, of each decoder.
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
        decoders: How many `predict` answers for.
        uncertain: Whether to map the uncertainty.
        recorder: Gathers probabilities and features; `predict` then gives the first decoder's features too,
            after the logits of all decoders.
    """
    padded, inside = fill_windows(image, plan.shape, air)
    below = inside[0].start
    source = torch.from_numpy(padded)
    slab = Slab(plan, organs + 1, decoders, activation, device)
    labels = np.zeros(plan.shape, np.uint8 if organs < 256 else np.uint16)
    confidence = np.zeros(plan.shape, np.uint8)
    uncertainty = np.zeros(plan.shape, np.uint8) if uncertain else None
    depth, height, width = plan.window
    corners = [(j, i) for j in plan.starts[1] for i in plan.starts[2]]
    asked = done = 0

    for k, end in zip(plan.starts[0], (*plan.starts[0][1:], plan.shape[0]), strict=True):
        for first in range(0, len(corners), batch_size):
            spots = corners[first : first + batch_size]
            crops = [source[k : k + depth, j : j + height, i : i + width] for j, i in spots]
            busy = [air is None or float(crop.max()) > air + AIR_TOLERANCE for crop in crops]
            predicted: Iterator[tuple[Tensor, ...]] = iter(())
            if any(busy):
                chosen = torch.stack([crop for crop, is_busy in zip(crops, busy, strict=True) if is_busy])
                predicted = zip(*predict(chosen[:, None].to(network_device)), strict=True)
                asked += len(chosen)
            for corner, is_busy in zip(spots, busy, strict=True):
                if is_busy:
                    answer = next(predicted)
                    slab.add(corner, answer[:decoders])
                    if recorder is not None:
                        recorder.add_features((k - below, *corner), answer[decoders])
                else:
                    slab.add_air(corner)
            done += len(spots)
            progress(Stage.SEGMENTING, done / plan.count)
        winner, best = slab.labels(end - k)
        labels[k:end] = winner.cpu().numpy()
        confidence[k:end] = _bytes(best)
        if uncertainty is not None:
            uncertainty[k:end] = _bytes(slab.uncertainty(end - k))
        if recorder is not None:
            recorder.add_probabilities(k - below, slab.probabilities(end - k))
        slab.shift(end - k)
    return StreamedLabels(
        labels[inside], confidence[inside], asked, None if uncertainty is None else uncertainty[inside]
    )


def fill_windows(
    image: NDArray[np.float32], shape: tuple[int, int, int], air: float | None
) -> tuple[NDArray[np.float32], tuple[slice, ...]]:
    """Enlarge an image that is smaller than a window.

    Along k a scan ends where the patient goes on: its planes are mirrored below it, since a network that
    knows whole bodies takes a wall of air for the end of the patient. In-plane, and where no intensity is
    known to be air, the lowest one goes on.

    Args:
        image: (k, j, i), normalised.
        shape: At least the image's.
        air: Normalised intensity of air; None where there is none.

    Returns:
        The larger image, and where the given one lies in it.
    """
    below = 0 if air is None else shape[0] - image.shape[0]
    inside = (slice(below, below + image.shape[0]), slice(image.shape[1]), slice(image.shape[2]))
    if below:
        image = np.pad(image, [(below, 0), (0, 0), (0, 0)], mode="reflect" if image.shape[0] > 1 else "edge")
    padding = [(0, wanted - size) for wanted, size in zip(shape, image.shape, strict=True)]
    return np.pad(image, padding, constant_values=float(image.min()) if air is None else air), inside


def _bytes(shares: Tensor) -> NDArray[np.uint8]:
    """Turn [0, 1] into 0…255, in place."""
    return shares.mul_(255).round_().to(torch.uint8).cpu().numpy()

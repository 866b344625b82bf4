"""Sliding-window prediction whose memory is bounded by classes × one slab of windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multiorganseg.geometry.orient import CANONICAL_FEET, Feet
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
            `multiorganseg.inference.slab`.
    """

    labels: NDArray[np.unsignedinteger]
    confidence: NDArray[np.uint8]
    windows: int
    uncertainty: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class FinishedPlanes:
    """Planes that no further window touches.

    Attributes:
        start: The first one.
        stop: The one after the last.
        asked: Windows that the network saw so far.
    """

    start: int
    stop: int
    asked: int


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
    feet: Feet | None = CANONICAL_FEET,
) -> StreamedLabels:
    """Run the network window by window and finish each plane as soon as no window will touch it again.

    Probabilities of overlapping windows are averaged with Gaussian weights. Windows that hold nothing but
    air count as background without asking the network. Labels are the first decoder's, whatever the others
    say.

    Args:
        predict: Takes (batch, channels, k, j, i) float32 on `network_device`, gives logits of the same shape
            but for the channels, of each decoder.
        image: (k, j, i), or (channel, k, j, i) where the network takes several; normalised.
        plan: Windows for the image's shape.
        organs: Number of organs: one channel less than the logits have under softmax.
        activation: "softmax" (channel 0 is background) or "sigmoid" (background where no organ reaches 0.5:
            LTUDA, Eq. 2) or "regions" (so too, and the last organ that does wins).
        air: Normalised intensity of air; None asks the network for every window.
        batch_size: Windows given to `predict` at once.
        network_device: Where `predict` runs.
        device: Where the probabilities of a slab are summed.
        progress: Reports after each batch.
        decoders: How many `predict` answers for.
        uncertain: Whether to map the uncertainty.
        recorder: Gathers probabilities and features; `predict` then gives the first decoder's features too,
            after the logits of all decoders.
        feet: Along which axis of the image the patient lies; None when that is not known.
    """
    padded, inside = fill_windows(image, plan.shape, air, feet)
    start = (inside[0].start, inside[1].start, inside[2].start)
    slab = Slab(plan, organs + 1, decoders, activation, device)
    labels = np.zeros(plan.shape, np.uint8 if organs < 256 else np.uint16)
    confidence = np.zeros(plan.shape, np.uint8)
    uncertainty = np.zeros(plan.shape, np.uint8) if uncertain else None
    asked = 0
    finished = run_windows(
        predict,
        padded,
        plan,
        slab,
        air=air,
        batch_size=batch_size,
        network_device=network_device,
        progress=progress,
        recorder=recorder,
        start=start,
    )
    for part in finished:
        planes = slice(part.start, part.stop)
        winner, best = slab.labels(part.stop - part.start)
        labels[planes] = winner.cpu().numpy()
        confidence[planes] = as_bytes(best)
        if uncertainty is not None:
            uncertainty[planes] = as_bytes(slab.uncertainty(part.stop - part.start))
        if recorder is not None:
            means = slab.mean(part.stop - part.start)[:, inside[1], inside[2]]
            recorder.add_probabilities(part.start - start[0], means)
        asked = part.asked
    return StreamedLabels(
        labels[inside], confidence[inside], asked, None if uncertainty is None else uncertainty[inside]
    )


def run_windows(
    predict: Predict,
    image: NDArray[np.float32],
    plan: WindowPlan,
    slab: Slab,
    *,
    air: float | None,
    batch_size: int,
    network_device: torch.device,
    progress: Progress,
    recorder: MapRecorder | None = None,
    start: tuple[int, int, int] = (0, 0, 0),
) -> Iterator[FinishedPlanes]:
    """Add every window to a slab, and tell whenever planes are finished; `stream_labels` says the rest.

    The planes that are reported of are the slab's first ones until the next are asked for.

    Args:
        predict: As for `stream_labels`.
        image: (k, j, i), or (channel, k, j, i), of the plan's shape: see `fill_windows`.
        plan: As for `stream_labels`.
        slab: Empty, for the plan.
        air: As for `stream_labels`.
        batch_size: As for `stream_labels`.
        network_device: As for `stream_labels`.
        progress: As for `stream_labels`.
        recorder: As for `stream_labels`; here it is given features alone.
        start: Where the recorder's first voxel lies in the image.
    """
    source = torch.from_numpy(image[None] if image.ndim == 3 else image)
    depth, height, width = plan.window
    corners = [(j, i) for j in plan.starts[1] for i in plan.starts[2]]
    asked = done = 0

    for k, end in zip(plan.starts[0], (*plan.starts[0][1:], plan.shape[0]), strict=True):
        for first in range(0, len(corners), batch_size):
            spots = corners[first : first + batch_size]
            crops = [source[:, k : k + depth, j : j + height, i : i + width] for j, i in spots]
            busy = [air is None or float(crop.max()) > air + AIR_TOLERANCE for crop in crops]
            predicted: Iterator[Sequence[Tensor]] = iter(())
            if any(busy):
                chosen = torch.stack([crop for crop, is_busy in zip(crops, busy, strict=True) if is_busy])
                predicted = zip(*predict(chosen.to(network_device)), strict=True)
                asked += len(chosen)
            for corner, is_busy in zip(spots, busy, strict=True):
                if is_busy:
                    answer = next(predicted)
                    if recorder is not None:
                        *answer, features = answer
                        k0, j0, i0 = (at - first for at, first in zip((k, *corner), start, strict=True))
                        recorder.add_features((k0, j0, i0), features)
                    slab.add(corner, answer)
                else:
                    slab.add_air(corner)
            done += len(spots)
            progress(Stage.SEGMENTING, done / plan.count)
        yield FinishedPlanes(k, end, asked)
        slab.shift(end - k)


def fill_windows(
    image: NDArray[np.float32],
    shape: tuple[int, int, int],
    air: float | None,
    feet: Feet | None = CANONICAL_FEET,
) -> tuple[NDArray[np.float32], tuple[slice, slice, slice]]:
    """Enlarge an image that is smaller than a window.

    Towards the feet a scan ends where the patient goes on: its planes are mirrored there, since a network
    that knows whole bodies takes a wall of air for the end of the patient. Along the other axes, and where
    no intensity is known to be air, the lowest one goes on.

    Args:
        image: (k, j, i), or (channel, k, j, i), normalised.
        shape: At least the image's.
        air: Normalised intensity of air; None where there is none.
        feet: Along which axis the patient lies; None when that is not known.

    Returns:
        The larger image, and where the given one lies in it along (k, j, i).
    """
    sizes = image.shape[-3:]
    channels = [(0, 0)] * (image.ndim - 3)
    mirrored, rest = [(0, 0)] * 3, [(0, wanted - size) for wanted, size in zip(shape, sizes, strict=True)]
    if air is not None and feet is not None:
        axis, at_first = feet
        missing = rest[axis][1]
        mirrored[axis] = (missing, 0) if at_first else (0, missing)
        rest[axis] = (0, 0)
        mode: Literal["reflect", "edge"] = "reflect" if sizes[axis] > 1 else "edge"
        image = np.pad(image, [*channels, *mirrored], mode=mode)
    k, j, i = (slice(first, first + size) for (first, _), size in zip(mirrored, sizes, strict=True))
    fill = float(image.min()) if air is None else air
    return np.pad(image, [*channels, *rest], constant_values=fill), (k, j, i)


def as_bytes(shares: Tensor) -> NDArray[np.uint8]:
    """Turn [0, 1] into 0…255, in place."""
    return shares.mul_(255).round_().to(torch.uint8).cpu().numpy()

"""What a segmentation will need, before it starts, and what is given up when that is not there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from multiorganseg.bundles import Metadata
from multiorganseg.errors import ResourceError
from multiorganseg.inference.windows import plan_windows

GIB = 2**30
BASE_BYTES = 700 * 2**20
ACTIVATION_BYTES_PER_VOXEL = 700
BYTES_PER_FEATURE = 32
MAP_BYTES_PER_VOXEL = 6
LARGEST_BATCH = 8
RESERVE = 0.9

OVERLAPS = {"fast": 0.1, "balanced": 0.4, "best": 0.6}


@dataclass(frozen=True)
class Settings:
    """How the windows are run.

    Attributes:
        device: Where the network runs.
        accumulate_on: Where the probabilities of a slab are summed.
        overlap: Share of a window that neighbours overlap.
        batch_size: Windows at once.
        messages: What was given up, and why.
        decoders: How many decoders run; the first is summed alone, the others together.
        uncertain: Whether the uncertainty is mapped.
    """

    device: torch.device
    accumulate_on: torch.device
    overlap: float
    batch_size: int
    messages: tuple[str, ...] = ()
    decoders: int = 1
    uncertain: bool = False

    def degrade(self, message: str, **changes: object) -> Settings:
        """Return changed settings that say why they were changed."""
        return replace(self, messages=(*self.messages, message), **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Need:
    """Estimated need of a run.

    Attributes:
        ram: Bytes of main memory beside what is in use already.
        device: Bytes of the graphics card; 0 on a CPU.
        windows: Number of windows.
    """

    ram: int
    device: int
    windows: int


def estimate_need(
    metadata: Metadata, shape: tuple[int, int, int], output_voxels: int, settings: Settings
) -> Need:
    """Estimate what a run will need.

    Args:
        metadata: Of the bundle.
        shape: Voxels (k, j, i) of the network's grid.
        output_voxels: Voxels of the input.
        settings: How the windows are run.
    """
    plan = plan_windows(shape, metadata.patch_shape, settings.overlap)
    window = math.prod(metadata.patch_shape)
    channels = metadata.channels + (metadata.activation != "softmax")
    activations = max(ACTIVATION_BYTES_PER_VOXEL, BYTES_PER_FEATURE * metadata.feature_channels)
    slab = metadata.patch_shape[0] * plan.shape[1] * plan.shape[2]
    summing = 4 * slab * (max(min(settings.decoders, 2), metadata.folds) * channels + 7)
    logits = 12 * channels * settings.decoders
    network = settings.batch_size * window * (activations + logits)
    ram = BASE_BYTES + (6 + 8 * metadata.in_channels) * math.prod(plan.shape) + 3 * output_voxels
    if settings.uncertain:
        ram += math.prod(plan.shape) + MAP_BYTES_PER_VOXEL * output_voxels
    on_device = 0
    if settings.device.type == "cpu":
        ram += network
    else:
        on_device += network
    if settings.accumulate_on.type == "cpu":
        ram += summing
    else:
        on_device += summing
    return Need(ram, on_device, plan.count)


def plan_settings(
    metadata: Metadata,
    shape: tuple[int, int, int],
    output_voxels: int,
    *,
    device: torch.device,
    quality: str,
    ram_free: int,
    device_free: int,
    decoders: int = 1,
    uncertain: bool = False,
    overlap: float | None = None,
) -> Settings:
    """Choose the settings for the quality asked, and give up what does not fit, the least harmful first.

    On a graphics card: smaller batches, then sums in main memory, then the CPU. On a CPU there is nothing
    left to give up but the run itself.

    Args:
        metadata: Of the bundle.
        shape: Voxels (k, j, i) of the network's grid.
        output_voxels: Voxels of the input.
        device: Wanted device.
        quality: A key of `OVERLAPS`.
        ram_free: Bytes of main memory that are free.
        device_free: Bytes of the graphics card that are free.
        decoders: How many decoders run.
        uncertain: Whether the uncertainty is mapped.
        overlap: Taken instead of that of the quality.

    Raises:
        ResourceError: Main memory does not suffice even so.
    """
    settings = Settings(
        device,
        device,
        OVERLAPS[quality] if overlap is None else overlap,
        1 if device.type == "cpu" else LARGEST_BATCH,
        decoders=decoders,
        uncertain=uncertain,
    )

    def need(candidate: Settings) -> Need:
        return estimate_need(metadata, shape, output_voxels, candidate)

    if device.type != "cpu":
        while need(settings).device > RESERVE * device_free and settings.batch_size > 1:
            settings = replace(settings, batch_size=settings.batch_size // 2)
        if settings.batch_size < LARGEST_BATCH:
            settings = settings.degrade(f"Smaller batches ({settings.batch_size}) to fit the graphics card.")
        if need(settings).device > RESERVE * device_free:
            settings = settings.degrade(
                "The graphics card is too small for all classes: they are summed in main memory, slower.",
                accumulate_on=torch.device("cpu"),
            )
        if need(settings).device > RESERVE * device_free:
            cpu = torch.device("cpu")
            settings = settings.degrade(
                f"The graphics card has {device_free / GIB:.1f} GiB free, too little: the CPU is used.",
                device=cpu,
                accumulate_on=cpu,
                batch_size=1,
            )
    if need(settings).ram > RESERVE * ram_free:
        msg = "There is not enough memory for this volume."
        needed = need(settings).ram / GIB
        raise ResourceError(
            msg,
            cause=f"About {needed:.1f} GiB are needed and {ram_free / GIB:.1f} GiB are free.",
            next_step="Close other programs, crop the volume, or use a machine with more memory.",
        )
    return settings


def limit_time(
    settings: Settings, seconds_per_window: float, windows_by_overlap: dict[float, int], limit: float
) -> Settings:
    """Take the largest step up to which the run stays below a time limit.

    Args:
        settings: Planned so far.
        seconds_per_window: Measured on this device.
        windows_by_overlap: Number of windows for each overlap that may be chosen.
        limit: Seconds.
    """
    if seconds_per_window * windows_by_overlap[settings.overlap] <= limit:
        return settings
    coarser = sorted((overlap for overlap in windows_by_overlap if overlap < settings.overlap), reverse=True)
    fitting = [o for o in coarser if seconds_per_window * windows_by_overlap[o] <= limit] or coarser[-1:]
    if not fitting:
        return settings
    expected = seconds_per_window * windows_by_overlap[settings.overlap]
    return settings.degrade(
        f"A coarser step, since about {expected:.0f} s would pass the limit of {limit:.0f} s.",
        overlap=fitting[0],
    )

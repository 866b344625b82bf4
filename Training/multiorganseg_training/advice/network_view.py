"""How a network sees a case: where it is uncertain, and what its features are like."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from multiorganseg.bundles import Bundle
from multiorganseg.errors import TrainingError
from multiorganseg.inference.backends import choose_device, computes_bf16, load_network
from multiorganseg.inference.prepare import prepare
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.inference.windows import plan_windows
from multiorganseg.intensities import AIR
from multiorganseg.networks.build import place_network
from multiorganseg.progress import Progress
from multiorganseg.volumes.read import read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg_training.data.cache import content_digest, load_entry, save_entry

FORMAT = 1
FEWEST_VOXELS = 32
"""Fewer voxels of a class than this give no prototype."""


@dataclass(frozen=True, eq=False)
class NetworkView:
    """What a network says about one case.

    Attributes:
        uncertainty: By organ key, mean uncertainty in [0, 1] of the organ and a shell around it; organs that
            were not found are left out.
        prototypes: By organ key ("background" included), mean feature (features,) of the voxels that it
            predicts as the organ; organs of fewer than 32 voxels are left out.
    """

    uncertainty: dict[str, float]
    prototypes: dict[str, NDArray[np.float32]]


class Viewer:
    """Looks at cases with a bundle's network, and remembers what it saw.

    Args:
        bundle: Holds the network.
        device: "auto", "cpu", "cuda" or "mps".
        cache: Folder that keeps views; a changed image or bundle is looked at anew.

    Raises:
        BundleError: The weights do not fit the architecture.
        ResourceError: The device does not exist.
    """

    def __init__(self, bundle: Bundle, device: str, cache: Path) -> None:
        self.bundle = bundle
        self.cache = cache
        self._device_name = device
        self._segmenter: Segmenter | None = None
        self._network: nn.Module | None = None

    def look(self, image: Path, progress: Progress | None = None) -> NetworkView:
        """Look at an image.

        Raises:
            TrainingError: The image does not exist.
            VolumeError: It cannot be read.
            ResourceError: The cache cannot be written.
        """
        path = self.cache / f"{self._fingerprint(image)}.npz"
        arrays = load_entry(path)
        if arrays is not None:
            said = json.loads(str(arrays["uncertainty"]))
            means = {name[2:]: array for name, array in arrays.items() if name.startswith("p:")}
            return NetworkView(said, means)
        volume = read_volume(image)
        view = NetworkView(self._unsure(volume, progress or Progress()), self._prototypes(volume))
        means = {f"p:{key}": mean for key, mean in view.prototypes.items()}
        save_entry(path, {"uncertainty": np.array(json.dumps(view.uncertainty)), **means})
        return view

    def _unsure(self, volume: Volume, progress: Progress) -> dict[str, float]:
        if self._segmenter is None:
            options = Options(quality="fast", device=self._device_name, uncertainty=True)
            self._segmenter = Segmenter(self.bundle, options)
        rows = self._segmenter.segment(volume, Progress(token=progress.token)).statistics
        return {
            row.key: row.uncertainty
            for row in rows
            if row.uncertainty is not None and np.isfinite(row.uncertainty)
        }

    def _prototypes(self, volume: Volume) -> dict[str, NDArray[np.float32]]:
        device = choose_device(self._device_name)
        if self._network is None:
            self._network = place_network(load_network(self.bundle), device)
        metadata = self.bundle.metadata
        _, image = prepare(volume, metadata.preprocessing)
        sums, counts = _feature_sums(self._network, image, self.bundle, device)
        names = ("background", *metadata.labels.keys)
        return {
            name: (sums[channel] / counts[channel]).astype(np.float32)
            for channel, name in enumerate(names)
            if counts[channel] >= FEWEST_VOXELS
        }

    def _fingerprint(self, image: Path) -> str:
        if not image.exists():
            msg = f"{image} does not exist."
            raise TrainingError(msg, next_step="Check that the project is complete.")
        text = json.dumps([FORMAT, self.bundle.digest, content_digest(image)])
        return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


@torch.inference_mode()
def _feature_sums(
    network: nn.Module, image: NDArray[np.float32], bundle: Bundle, device: torch.device
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums (classes, features) of features over the voxels of each predicted class, and their counts.

    Windows touch without overlapping more than they must. Where features lie on a coarser grid than the
    logits, each of their cells takes the class of its middle voxel.
    """
    metadata = bundle.metadata
    padding = [
        (0, max(window - size, 0)) for window, size in zip(metadata.patch_shape, image.shape, strict=True)
    ]
    padded = np.pad(image, padding, constant_values=float(image.min()))
    shape = (padded.shape[0], padded.shape[1], padded.shape[2])
    plan = plan_windows(shape, metadata.patch_shape, 0.0)
    classes = len(metadata.labels.keys) + 1
    sums = torch.zeros((classes, metadata.feature_channels), dtype=torch.float64)
    counts = torch.zeros(classes, dtype=torch.float64)
    reduced = computes_bf16(device)
    for k in plan.starts[0]:
        for j in plan.starts[1]:
            for i in plan.starts[2]:
                depth, height, width = metadata.patch_shape
                crop = padded[k : k + depth, j : j + height, i : i + width]
                if metadata.preprocessing.intensity == "window" and float(crop.max()) <= AIR + 0.02:
                    continue
                batch = torch.from_numpy(np.ascontiguousarray(crop))[None, None].to(device)
                with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
                    output = network(batch)
                labels = _classes(output.logits.float(), metadata.activation)
                features = output.features.float()
                labels = functional.interpolate(
                    labels[:, None].float(), size=features.shape[2:], mode="nearest-exact"
                )
                flat = labels.long().flatten().cpu()
                rows = features[0].flatten(1).T.double().cpu()
                sums.index_add_(0, flat, rows)
                counts += torch.bincount(flat, minlength=classes)
    return sums.numpy(), counts.numpy()


def _classes(logits: torch.Tensor, activation: str) -> torch.Tensor:
    if activation == "softmax":
        return logits.max(dim=1).indices
    best, organ = logits.max(dim=1)
    return torch.where(best > 0, organ + 1, 0)

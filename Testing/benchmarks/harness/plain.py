"""The plain way: MONAI's sliding window, logits brought to full resolution, argmax."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import SimpleITK as sitk
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn
from torch.nn.functional import interpolate

from harness.stages import Recorder
from multiorganseg.bundles import load_bundle
from multiorganseg.inference.backends import load_network, torch_backend
from multiorganseg.inference.windows import CENTRE_SIGMA
from multiorganseg.intensities import AIR, map_window
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume

AIR_HU = -1024.0


def run_plain(
    ct: Path, bundle_folder: Path, overlap: float, full_precision: bool, output: Path, recorder: Recorder
) -> None:
    """Segment a CT with the bundle's network and write the labels.

    Args:
        ct: The CT.
        bundle_folder: A softmax bundle with an intensity window.
        overlap: Share of a window that neighbours overlap.
        full_precision: float32 throughout; else the precision in which the engine runs the network.
        output: Of the labels.
        recorder: Told the stages.
    """
    with recorder.stage("read"):
        image = sitk.ReadImage(str(ct))
    with recorder.stage("load bundle"):
        bundle = load_bundle(bundle_folder)
    metadata = bundle.metadata
    with recorder.stage("resample"):
        code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
        oriented = sitk.DICOMOrient(image, "LPS")
        del image
        window = metadata.preprocessing.window or (0.0, 1.0)
        resampled = sitk.GetArrayFromImage(_resample(oriented, metadata.preprocessing.spacing_mm))
        batch = torch.from_numpy(map_window(resampled, window))[None, None]
        size = oriented.GetSize()[::-1]
        geometry = oriented.GetSpacing(), oriented.GetOrigin(), oriented.GetDirection()
        del oriented, resampled
    with recorder.stage("load network"):
        network = load_network(bundle)
        predict, precision = _predict(network, full_precision)
    windows = 0

    def counted(windows_in: Tensor) -> Tensor:
        nonlocal windows
        windows += len(windows_in)
        return predict(windows_in)

    with recorder.stage("network"), torch.inference_mode():
        logits = cast(
            Tensor,
            sliding_window_inference(
                batch,
                metadata.patch_shape,
                1,
                counted,
                overlap=overlap,
                mode="gaussian",
                sigma_scale=CENTRE_SIGMA,
                cval=AIR,
            ),
        )
    recorder.facts(backend=precision, overlap=overlap, windows=windows, logits=str(logits.dtype))
    with recorder.stage("interpolate"), torch.inference_mode():
        logits = interpolate(logits, size=size, mode="trilinear", align_corners=False)
    with recorder.stage("argmax"), torch.inference_mode():
        labels = logits.argmax(1)[0].to(torch.uint8).numpy()
        del logits
    with recorder.stage("reorient"):
        on_input = sitk.GetImageFromArray(labels)
        on_input.SetSpacing(geometry[0])
        on_input.SetOrigin(geometry[1])
        on_input.SetDirection(geometry[2])
        on_input = sitk.DICOMOrient(on_input, code)
    with recorder.stage("write"):
        write_volume(_to_volume(on_input), output)


def _resample(image: sitk.Image, spacing_kji: tuple[float, float, float]) -> sitk.Image:
    """Linear interpolation onto a grid with the same outer border."""
    old_spacing, old_size = np.array(image.GetSpacing()), np.array(image.GetSize())
    size = np.maximum(1, np.rint(old_size * old_spacing / spacing_kji[::-1])).astype(int)
    spacing = old_size * old_spacing / size
    directions = np.array(image.GetDirection()).reshape(3, 3)
    origin = np.array(image.GetOrigin()) + directions @ (0.5 * (spacing - old_spacing))
    return sitk.Resample(
        sitk.Cast(image, sitk.sitkFloat32),
        size.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        origin.tolist(),
        spacing.tolist(),
        image.GetDirection(),
        AIR_HU,
        sitk.sitkFloat32,
    )


def _predict(network: nn.Module, full_precision: bool) -> tuple[Callable[[Tensor], Tensor], str]:
    if not full_precision:
        backend = torch_backend(network, torch.device("cpu"))
        return lambda batch: backend.predict(batch)[0], backend.name
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def predict(batch: Tensor) -> Tensor:
        logits: Tensor = network(batch).logits
        return logits

    return predict, "torch, cpu, fp32"


def _to_volume(image: sitk.Image) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image), affine)

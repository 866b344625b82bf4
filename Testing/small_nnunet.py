"""The smallest network that nnU-Net 2 could have trained, in a folder as it writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from multiorganseg.networks.nnunet import NnUNet

FILTERS, KERNEL = [4, 8], [[3, 3, 3], [3, 3, 3]]
STRIDES = [[1, 1, 1], [2, 2, 2]]
NAMES = {"encoder.0.": "encoder.stages.0.0.convs.", "encoder.1.": "encoder.stages.1.0.convs."}
NAMES |= {"decoder.0.enlarge.": "decoder.transpconvs.0.", "decoder.0.level.": "decoder.stages.0.convs."}
NAMES |= {"head.": "decoder.seg_layers.0."}


def write_nnunet(
    folder: Path,
    folds: tuple[str, ...] = ("0",),
    channels: int = 1,
    labels: Mapping[str, int | list[int]] | None = None,
    mirrored: tuple[int, ...] = (0, 1, 2),
) -> Path:
    """Write a model folder with random weights.

    Args:
        folder: Named as a data set, such as "Dataset007_Liver".
        folds: Names of its folds.
        channels: Images of a patient.
        labels: Without background; a liver when None. Lists are regions.
        mirrored: Axes along which it may be mirrored; each doubles the time of a segmentation.
    """
    foreground: dict[str, Any] = dict(labels or {"liver": 1})
    regions = any(isinstance(value, list) for value in foreground.values())
    kwargs = {"n_stages": 2, "features_per_stage": FILTERS, "conv_op": "torch.nn.modules.conv.Conv3d"}
    kwargs |= {"kernel_sizes": KERNEL, "strides": STRIDES, "n_conv_per_stage": 1}
    kwargs |= {"n_conv_per_stage_decoder": 1, "conv_bias": True, "dropout_op": None}
    kwargs |= {"norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "dropout_op_kwargs": None}
    kwargs |= {"norm_op_kwargs": {"eps": 1e-5, "affine": True}, "nonlin": "torch.nn.LeakyReLU"}
    kwargs |= {"nonlin_kwargs": {"inplace": True}}
    name = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    said = {"patch_size": [16, 32, 32], "spacing": [2.0, 1.5, 1.5]}
    said |= {"normalization_schemes": ["CTNormalization"] * channels}
    said |= {"architecture": {"network_class_name": name, "arch_kwargs": kwargs}}
    seen = {"percentile_00_5": -100.0, "percentile_99_5": 250.0, "mean": 80.0, "std": 60.0}
    plans = {"dataset_name": folder.name, "transpose_forward": [0, 1, 2]}
    plans |= {"configurations": {"3d_fullres": said}}
    numbers = [str(number) for number in range(channels)]
    plans |= {"foreground_intensity_properties_per_channel": dict.fromkeys(numbers, seen)}
    named = {"background": 0, **foreground}
    dataset = {"channel_names": dict.fromkeys(numbers, "CT"), "labels": named, "license": "CC0"}
    dataset |= {"regions_class_order": list(range(1, len(named)))} if regions else {}
    model = folder / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    model.mkdir(parents=True)
    for fold in folds:
        (model / f"fold_{fold}").mkdir()
        torch.manual_seed(int(fold))
        outputs = len(named) - regions
        state = NnUNet(channels, outputs, FILTERS, KERNEL, STRIDES, [1, 1], [1]).state_dict()
        theirs = {
            next(new + key.removeprefix(old) for old, new in NAMES.items() if key.startswith(old)): tensor
            for key, tensor in state.items()
        }
        content = {"network_weights": theirs, "inference_allowed_mirroring_axes": mirrored}
        torch.save(content, model / f"fold_{fold}" / "checkpoint_final.pth")
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(json.dumps(dataset))
    return model

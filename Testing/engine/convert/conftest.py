"""Small models in the formats of other programs, written as those programs write them."""

from __future__ import annotations

import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
CONFIGURATION = "3d_fullres"
ARGUMENTS: dict[str, Any] = {
    "filters": [4, 6, 8],
    "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "encoder": [2, 1, 2],
    "decoder": [2, 1],
}
_THEIRS = (
    (r"^stem\.(\d+)\.", r"encoder.stem.convs.\1."),
    (r"^encoder\.(\d+)\.(\d+)\.first\.", r"encoder.stages.\1.blocks.\2.conv1."),
    (r"^encoder\.(\d+)\.(\d+)\.second\.", r"encoder.stages.\1.blocks.\2.conv2."),
    (r"^encoder\.(\d+)\.(\d+)\.project\.", r"encoder.stages.\1.blocks.\2.skip.1."),
    (r"^encoder\.(\d+)\.(\d+)\.", r"encoder.stages.\1.0.convs.\2."),
    (r"^decoder\.(\d+)\.enlarge\.", r"decoder.transpconvs.\1."),
    (r"^decoder\.(\d+)\.level\.(\d+)\.", r"decoder.stages.\1.convs.\2."),
)


def their_state(state: dict[str, Any], stages: int) -> OrderedDict[str, Any]:
    """Name weights as nnU-Net does, with the names that it gives a second time."""
    import torch

    theirs: OrderedDict[str, Any] = OrderedDict()
    for name, tensor in state.items():
        if name.startswith("head."):
            for level in range(stages - 1):
                last = level == stages - 2
                theirs[f"decoder.seg_layers.{level}.{name[5:]}"] = tensor if last else torch.zeros(2, 2)
            continue
        plain = next(re.sub(old, new, name) for old, new in _THEIRS if re.search(old, name))
        for first in [plain, *([f"decoder.{plain}"] if plain.startswith("encoder.") else [])]:
            theirs[first] = tensor
            again = first.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
            theirs[again] = tensor
    return theirs


def make_plans(residual: bool = False, **changes: Any) -> dict[str, Any]:
    """Return plans in the new form; changes go to the configuration."""
    stages, dims = len(ARGUMENTS["filters"]), len(ARGUMENTS["kernels"][0])
    counts = {"n_blocks_per_stage" if residual else "n_conv_per_stage": ARGUMENTS["encoder"]}
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [8, 16, 16],
        "spacing": [4.0, 2.0, 2.0],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet."
            + ("ResidualEncoderUNet" if residual else "PlainConvUNet"),
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": ARGUMENTS["filters"],
                "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
                "kernel_sizes": ARGUMENTS["kernels"],
                "strides": ARGUMENTS["strides"],
                **counts,
                "n_conv_per_stage_decoder": ARGUMENTS["decoder"],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
        },
        **changes,
    }
    return {
        "dataset_name": "Dataset123_Small",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [4.0, 2.0, 2.0],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "foreground_intensity_properties_per_channel": {
            "0": {"percentile_00_5": -100.0, "percentile_99_5": 200.0, "mean": 40.0, "std": 50.0}
        },
    }


def make_dataset(**changes: Any) -> dict[str, Any]:
    """Return a data set of a left kidney, a liver and something of its own."""
    labels = {"background": 0, "Left Kidney": 1, "liver": 2, "my gland": 3}
    return {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz", **changes}


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Write a model folder of nnU-Net with random weights."""

    def make(
        plans: dict[str, Any] | None = None,
        dataset: dict[str, Any] | None = None,
        *,
        folds: tuple[str, ...] = ("0",),
        configuration: str = CONFIGURATION,
        name: str = "Dataset123_Small",
        in_channels: int = 1,
        channels: int = 4,
        residual: bool = False,
        change: Callable[[dict[str, Any]], None] | None = None,
        **arguments: Any,
    ) -> Path:
        import torch

        from multiorganseg.networks.build import build_network

        plans, dataset = plans or make_plans(residual), dataset or make_dataset()
        folder = tmp_path / name / f"nnUNetTrainer__nnUNetPlans__{configuration}"
        folder.mkdir(parents=True)
        (folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
        (folder / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
        sizes = {"in_channels": in_channels, "out_channels": channels, "residual": residual}
        for number, fold in enumerate(folds):
            torch.manual_seed(number)
            network = build_network("nnunet", {**ARGUMENTS, **sizes, **arguments})
            with torch.no_grad():
                network.head.weight.mul_(5)
            checkpoint = {
                "network_weights": their_state(network.state_dict(), len(ARGUMENTS["filters"])),
                "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(50)}}},
                "_best_ema": np.float32(0.5),
                "current_epoch": 2,
                "init_args": {
                    "plans": plans,
                    "configuration": configuration,
                    "fold": fold,
                    "dataset_json": dataset,
                    "device": torch.device("cpu"),
                },
                "trainer_name": "nnUNetTrainer",
                "inference_allowed_mirroring_axes": (0, 1, 2),
            }
            if change is not None:
                change(checkpoint)
            (folder / f"fold_{fold}").mkdir()
            torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
        return folder

    return make


def foreign_models() -> Path:
    """Where models of the real programs lie, with what these programs made of images."""
    shared = Path(os.environ.get("MULTIORGANSEG_SHARED", ROOT.parent / "shared"))
    return shared / "cases" / "foreign-models"


@pytest.fixture(scope="session")
def foreign() -> Path:
    folder = foreign_models()
    if not folder.is_dir():
        pytest.skip(
            f"Models of the real programs are not here ({folder}); MULTIORGANSEG_SHARED may say where."
        )
    return folder

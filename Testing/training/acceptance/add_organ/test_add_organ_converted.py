"""A converted network is a base like ours: an organ is put on it, and its own logits stay to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from multiorganseg.bundles import Bundle, find_bundle, load_bundle
from multiorganseg.convert.convert import ConvertOptions, convert
from multiorganseg.errors import TrainingError
from multiorganseg.inference.backends import load_network
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.networks.nnunet import NnUNet
from multiorganseg.volumes.read import read_volume
from multiorganseg_training.acceptance.check import CANDIDATE
from multiorganseg_training.project import load_project

FILTERS, KERNEL = [4, 8], [[3, 3, 3], [3, 3, 3]]
STRIDES = [[1, 1, 1], [2, 2, 2]]
NAMES = {"encoder.0.": "encoder.stages.0.0.convs.", "encoder.1.": "encoder.stages.1.0.convs."}
NAMES |= {"decoder.0.enlarge.": "decoder.transpconvs.0.", "decoder.0.level.": "decoder.stages.0.convs."}
NAMES |= {"head.": "decoder.seg_layers.0."}


def _write_nnunet(folder: Path, folds: tuple[str, ...]) -> Path:
    kwargs = {"n_stages": 2, "features_per_stage": FILTERS, "conv_op": "torch.nn.modules.conv.Conv3d"}
    kwargs |= {"kernel_sizes": KERNEL, "strides": STRIDES, "n_conv_per_stage": 1}
    kwargs |= {"n_conv_per_stage_decoder": 1, "conv_bias": True, "dropout_op": None}
    kwargs |= {"norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "dropout_op_kwargs": None}
    kwargs |= {"norm_op_kwargs": {"eps": 1e-5, "affine": True}, "nonlin": "torch.nn.LeakyReLU"}
    kwargs |= {"nonlin_kwargs": {"inplace": True}}
    name = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    said = {"patch_size": [16, 32, 32], "spacing": [2.0, 1.5, 1.5]}
    said |= {"normalization_schemes": ["CTNormalization"]}
    said |= {"architecture": {"network_class_name": name, "arch_kwargs": kwargs}}
    seen = {"percentile_00_5": -100.0, "percentile_99_5": 250.0, "mean": 80.0, "std": 60.0}
    plans = {"dataset_name": "Dataset007_Liver", "transpose_forward": [0, 1, 2]}
    plans |= {"configurations": {"3d_fullres": said}}
    plans |= {"foreground_intensity_properties_per_channel": {"0": seen}}
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "license": "CC0"}
    model = folder / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    for fold in folds:
        (model / f"fold_{fold}").mkdir(parents=True)
        torch.manual_seed(int(fold))
        state = NnUNet(1, 2, FILTERS, KERNEL, STRIDES, [1, 1], [1]).state_dict()
        theirs = {
            next(new + key.removeprefix(old) for old, new in NAMES.items() if key.startswith(old)): tensor
            for key, tensor in state.items()
        }
        content = {"network_weights": theirs, "inference_allowed_mirroring_axes": (0, 1, 2)}
        torch.save(content, model / f"fold_{fold}" / "checkpoint_final.pth")
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(json.dumps(dataset))
    return model


@pytest.fixture
def converted(models: Path, tmp_path: Path) -> Bundle:
    model = _write_nnunet(tmp_path / "Dataset007_Liver", ("0",))
    return convert(model, models, ConvertOptions(orientation="RAS", name="foreign-liver")).bundle


def test_an_organ_is_put_on_a_converted_network(converted, added):
    ours = added(3)
    ours(base="foreign-liver", iterations=6)
    base, candidate = find_bundle("foreign-liver"), load_bundle(ours.run / CANDIDATE)
    assert candidate.metadata.schema_version == 2
    assert candidate.metadata.preprocessing == base.metadata.preprocessing
    assert candidate.metadata.labels.keys == ("liver", "spleen")
    assert candidate.metadata.license == "CC0"
    old, new = load_network(base), load_network(candidate)
    state = new.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in old.state_dict().items())
    image = torch.randn((1, 1, 16, 32, 32), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert torch.equal(new(image).logits[:, :2], old(image).logits)
    project = load_project(ours.project)
    volume = read_volume(next((project.folder / "images").glob("case_0*")))
    for mode in ("faithful", "fast"):
        result = Segmenter(candidate, Options(mode=mode, device="cpu")).segment(volume)
        assert result.labels.shape == volume.voxels.shape
        assert result.provenance["mode"] == mode
        assert set(np.unique(result.labels)) <= {0, 1, 2}


def test_several_networks_in_one_are_not_built_on(models, added, tmp_path):
    model = _write_nnunet(tmp_path / "Dataset007_Liver", ("0", "1"))
    convert(model, models, ConvertOptions(orientation="RAS", name="two-folds"))
    with pytest.raises(TrainingError, match="2 networks in one") as caught:
        added(3)(base="two-folds")
    assert "--fold 0" in caught.value.next_step

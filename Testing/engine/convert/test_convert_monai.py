"""MONAI Bundles and models of Auto3DSeg: read as data, parity with MONAI, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks import nets
from monai.networks.nets import SegResNet, SegResNetDS

from multiorganseg.convert.convert import ConvertOptions, convert
from multiorganseg.errors import BundleError
from multiorganseg.inference.backends import load_network
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.volumes.read import read_labels, read_volume

NETWORK = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "init_filters": 8}
NETWORK |= {"blocks_down": [1, 1], "blocks_up": [1], "dropout_prob": 0.1}


def make_config() -> dict[str, Any]:
    return {
        "imports": ["$import os"],
        "image_key": "image",
        "size": [16, 16, 8],
        "network_def": {"_target_": "SegResNet", **NETWORK},
        "network": "$@network_def.to('cpu')",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "@image_key", "reader": "$monai.data.ITKReader"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0, 2.0, 3.0], "mode": "bilinear"},
                {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -100, "a_max": 200}
                | {"b_min": 0, "b_max": 1, "clip": True},
            ],
        },
        "inferer": {"_target_": "monai.inferers.SlidingWindowInferer", "roi_size": "@size", "overlap": 0.5},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "nearest_interp": False,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            ],
        },
    }


@pytest.fixture
def make_bundle_folder(tmp_path: Path) -> Callable[..., Path]:
    def make(
        change: Callable[[dict[str, Any]], object] | None = None,
        network: torch.nn.Module | None = None,
        **names: str,
    ) -> Path:
        folder = tmp_path / "toy_bundle"
        for name in ("configs", "models"):
            (folder / name).mkdir(parents=True)
        config = make_config()
        if change is not None:
            change(config)
        (folder / "configs" / "inference.json").write_text(json.dumps(config))
        channels = {"0": "background", "1": "liver", "2": "my gland"} | names
        data = {"inputs": {"image": {"modality": "CT"}}, "outputs": {"pred": {"channel_def": channels}}}
        text = json.dumps({"name": "Toy", "version": "1", "network_data_format": data})
        (folder / "configs" / "metadata.json").write_text(text)
        (folder / "LICENSE").write_text("CC BY 4.0\nIn full.")
        if network is None:
            torch.manual_seed(0)
            network = SegResNet(**NETWORK)
        torch.save(network.state_dict(), folder / "models" / "model.pt")
        return folder

    return make


def _step(config: dict[str, Any], part: str, number: int) -> dict[str, Any]:
    return config[part]["transforms"][number]


def test_a_bundle_is_read_as_data(make_bundle_folder, tmp_path):
    done = convert(make_bundle_folder(), tmp_path / "out")
    metadata, original = done.bundle.metadata, done.bundle.metadata.preprocessing.original
    assert (metadata.name, done.orientation, metadata.license) == ("toy-bundle", "RAS", "CC BY 4.0")
    assert metadata.labels.keys == ("liver", "my_gland")
    assert metadata.patch_shape == (16, 16, 8)
    assert metadata.preprocessing.spacing_mm == (2.0, 2.0, 3.0)
    assert (original.weights, original.step, original.restore) == ("constant", "fixed", "probabilities")
    assert "In full." in (done.bundle.folder / "LICENSE").read_text()
    image = torch.randn((1, 1, 16, 16, 8), generator=torch.Generator().manual_seed(1))
    theirs = SegResNet(**NETWORK).eval()
    theirs.load_state_dict(torch.load(tmp_path / "toy_bundle" / "models" / "model.pt"))
    with torch.no_grad():
        torch.testing.assert_close(load_network(done.bundle)(image).logits, theirs(image))


UNET = {"channels": [4, 6, 8], "strides": [2, 2], "num_res_units": 2}
DYNUNET = {"kernel_size": [[3, 3, 1], 3, 3], "strides": [1, [2, 2, 1], 2], "filters": [4, 6, 8, 10]}
DYNUNET |= {"upsample_kernel_size": [[2, 2, 1], 2]}
SWIN = {"feature_size": 24, "use_checkpoint": True}
FURTHER_NETWORKS = {
    "UNet": [
        {**UNET, "norm": "batch"},
        {**UNET, "norm": ["INSTANCE", {"affine": True}], "act": ["LeakyReLU", {"inplace": True}]},
        {**UNET, "strides": [[2, 2, 1], [1, 2, 2]], "num_res_units": 1, "bias": False},
        {**UNET, "num_res_units": 0, "kernel_size": 5, "act": "RELU", "dropout": 0.1},
        {"channels": [4, 6], "strides": [[2, 1, 2]], "num_res_units": 0, "bias": False},
    ],
    "DynUNet": [
        DYNUNET,
        {**DYNUNET, "norm_name": "instance", "res_block": True, "trans_bias": True},
        {**DYNUNET, "norm_name": "batch", "deep_supervision": True, "deep_supr_num": 1, "dropout": 0.2},
    ],
    "SwinUNETR": [SWIN, {**SWIN, "depths": [1, 2, 1, 1], "num_heads": [2, 2, 4, 8], "drop_rate": 0.1}],
}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [(name, arguments) for name, cases in FURTHER_NETWORKS.items() for arguments in cases],
)
def test_networks_answer_as_those_of_monai(make_bundle_folder, tmp_path, name, arguments):
    """Weights as MONAI writes them: counters and tables of indices among them, blocks twice."""
    said = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, **arguments}
    torch.manual_seed(1)
    theirs = getattr(nets, name)(**said)
    image = torch.randn((1, 1, 64, 32, 32) if name == "SwinUNETR" else (1, 1, 16, 16, 8))
    with torch.no_grad():
        theirs.train()(image)
        shown = {"img_size": [96, 96, 96]} if name == "SwinUNETR" else {}

        def change(config: dict[str, Any]) -> None:
            config.update(network_def={"_target_": f"monai.networks.nets.{name}", **said, **shown})
            if name == "SwinUNETR":
                config.update(size=[64, 32, 32])

        done = convert(make_bundle_folder(change, theirs), tmp_path / "out")
        ours, wanted = load_network(done.bundle)(image), theirs.eval()(image)
    torch.testing.assert_close(ours.logits, wanted, rtol=1e-4, atol=1e-5)
    assert ours.features.shape[1] == done.bundle.metadata.feature_channels
    assert float(wanted.std()) > 1e-3


def test_blocks_of_dynunet_that_stand_there_twice_and_differ(make_bundle_folder, tmp_path):
    said = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, **DYNUNET}
    network = nets.DynUNet(**said)
    changed = network.state_dict()
    changed["skip_layers.downsample.conv1.conv.weight"] = changed["input_block.conv1.conv.weight"] + 1
    network.state_dict = lambda: changed
    folder = make_bundle_folder(lambda c: c.update(network_def={"_target_": "DynUNet", **said}), network)
    with pytest.raises(BundleError, match="must be the same, but differ"):
        convert(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("UNet", {**UNET, "strides": [2, 4]}, "ValueError: filters"),
        ("UNet", {**UNET, "strides": [2]}, "ValueError: filters"),
        ("UNet", {**UNET, "channels": [4, 6, 10**6]}, "number is too large"),
        ("UNet", {**UNET, "kernel_size": 2}, "ValueError: filters"),
        ("UNet", {**UNET, "kernel_size": [3, 3, 1]}, "a kernel of"),
        ("UNet", {**UNET, "num_res_units": 10**6}, "number is too large"),
        ("UNet", {**UNET, "norm": "layer"}, "not valid"),
        ("UNet", {**UNET, "act": "swish"}, "activation SWISH"),
        ("UNet", {**UNET, "adn_ordering": "AND"}, "adn_ordering"),
        ("UNet", {**UNET, "spatial_dims": 2}, "spatial_dims"),
        ("UNet", {**UNET, "channels": [4, 6, 10]}, "do not fit the network"),
        ("DynUNet", {**DYNUNET, "strides": [2, [2, 2, 1], 2]}, "ValueError: filters"),
        ("DynUNet", {**DYNUNET, "upsample_kernel_size": [2, 2]}, "upsample_kernel_size"),
        ("DynUNet", {**DYNUNET, "kernel_size": [3, 3]}, "ValueError: filters"),
        ("DynUNet", {**DYNUNET, "act_name": "relu"}, "act_name"),
        ("DynUNet", {**DYNUNET, "norm_name": ["INSTANCE", {"eps": 1}]}, "the normalisation"),
        ("SwinUNETR", {**SWIN, "use_v2": True}, "use_v2"),
        ("SwinUNETR", {**SWIN, "feature_size": 13}, "divisible by 12"),
    ],
)
def test_networks_of_monai_that_are_not_supported(make_bundle_folder, tmp_path, name, arguments, message):
    said = {"_target_": name, "spatial_dims": 3, "in_channels": 1, "out_channels": 3, **arguments}
    weights = {"UNet": UNET, "DynUNet": DYNUNET, "SwinUNETR": {"feature_size": 12}}[name]
    network = getattr(nets, name)(spatial_dims=3, in_channels=1, out_channels=3, **weights)
    with pytest.raises(BundleError) as caught:
        convert(make_bundle_folder(lambda c: c.update(network_def=said), network), tmp_path / "out")
    assert message in caught.value.cause
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["network_def"].update(out_channels="$1 + 2"), "is a program"),
        (lambda c: c["network_def"].update(init_filters="%other.json::x"), "is a program"),
        (lambda c: c.update(network_def="@network_def"), "refers to itself"),
        (lambda c: c.update(size="@nothing"), "which is not there"),
        (lambda c: c["network_def"].update(_target_="scripts.networks.UNEST"), "UNEST"),
        (lambda c: c["network_def"].update(_target_="os.system"), "os.system"),
        (lambda c: c["network_def"].update(use_conv_final=False), "use_conv_final"),
        (lambda c: c["network_def"].update(in_channels=2), "2 channels in"),
        (lambda c: c["network_def"].update(init_filters=10**9), "not valid"),
        (lambda c: c["network_def"].update(blocks_down=[1, 1, 1]), "do not fit"),
        (lambda c: _step(c, "preprocessing", 3).update(_target_="MyScaled"), "MyScaled"),
        (lambda c: _step(c, "preprocessing", 2).update(mode="nearest"), "Spacingd with"),
        (lambda c: c["preprocessing"]["transforms"].pop(1), "without Orientationd"),
        (lambda c: c["inferer"].update(_target_="SimpleInferer"), "SimpleInferer"),
        (lambda c: c["inferer"].update(overlap=2), "overlap 2"),
        (lambda c: c["postprocessing"]["transforms"].pop(), "without Invertd or without AsDiscreted"),
        (lambda c: _step(c, "postprocessing", 1).update(nearest_interp=True), "Invertd of probabilities"),
        (lambda c: c.pop("inferer"), "no inferer"),
    ],
)
def test_configurations_that_are_not_supported(make_bundle_folder, tmp_path, change, message):
    with pytest.raises(BundleError) as caught:
        convert(make_bundle_folder(change), tmp_path / "out")
    assert message in caught.value.cause
    assert not (tmp_path / "out").exists()


def test_torchscript_is_refused_with_the_way_out(make_bundle_folder, tmp_path):
    folder = make_bundle_folder()
    script = torch.jit.script(torch.nn.Linear(2, 2))
    torch.jit.save(script, folder / "models" / "model.ts")
    (folder / "models" / "model.pt").unlink()
    with pytest.raises(BundleError, match="TorchScript") as caught:
        convert(folder, tmp_path / "out")
    assert "models/model.pt" in caught.value.next_step
    shutil.copy(folder / "models" / "model.ts", folder / "models" / "model.pt")
    with pytest.raises(BundleError, match="TorchScript"):
        convert(folder, tmp_path / "out")


def test_a_configuration_in_yaml_is_refused_with_the_way_out(make_bundle_folder, tmp_path):
    folder = make_bundle_folder()
    (folder / "configs" / "inference.json").rename(folder / "configs" / "inference.yaml")
    with pytest.raises(BundleError, match="JSON alone") as caught:
        convert(folder, tmp_path / "out")
    assert "inference.json" in caught.value.next_step


def test_a_label_without_a_name(make_bundle_folder, tmp_path):
    with pytest.raises(BundleError, match="no name"):
        convert(make_bundle_folder(**{"2": " "}), tmp_path / "out")


ARGUMENTS = {"init_filters": 4, "blocks_down": [1, 1, 1], "in_channels": 1, "out_channels": 3, "dsdepth": 2}
CONFIG = {
    "network": {"_target_": "SegResNetDS", "norm": "INSTANCE_NVFUSER", **ARGUMENTS},
    "normalize_mode": "range",
    "intensity_bounds": [-100.0, 200.0],
    "resample_resolution": [2.0, 2.0, 3.0],
    "roi_size": [16, 16, 8],
    "crop_foreground": True,
    "orientation_ras": True,
    "sigmoid": False,
    "class_names": [["liver", 1], ["spleen", 2]],
}


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    def make(network: dict[str, Any] | None = None, **changes: Any) -> Path:
        torch.manual_seed(0)
        state = SegResNetDS(**ARGUMENTS, norm="INSTANCE").state_dict()
        config = {**CONFIG, "network": {**CONFIG["network"], **(network or {})}, **changes}
        (tmp_path / "toy").mkdir()
        torch.save({"epoch": 1, "state_dict": state, "config": config}, tmp_path / "toy" / "model.pt")
        return tmp_path / "toy" / "model.pt"

    return make


def test_a_file_of_auto3dseg_answers_as_there(make_file, tmp_path):
    path = make_file()
    done = convert(path.parent, tmp_path / "out")
    assert done.bundle.metadata.name == "toy"
    assert done.bundle.metadata.preprocessing.original.restore == "labels"
    image = torch.randn((1, 1, 16, 16, 8), generator=torch.Generator().manual_seed(1))
    theirs = SegResNetDS(**ARGUMENTS, norm="INSTANCE").eval()
    theirs.load_state_dict(torch.load(path)["state_dict"])
    with torch.no_grad():
        torch.testing.assert_close(load_network(done.bundle)(image).logits, theirs(image))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigmoid": True}, "overlap"),
        ({"normalize_mode": "pet"}, "normalises by 'pet'"),
        ({"extra_modalities": {"image2": "MRI"}}, "several images"),
        ({"class_names": [["liver", 1]]}, "3 channels and labels"),
        ({"class_names": [["liver", 1], ["", 2]]}, "no name"),
        ({"roi_size": [16, 16]}, "not valid"),
        ({"network": {"_target_": "my.SegResNetDS"}}, "my.SegResNetDS"),
        ({"network": {"norm": "LAYER"}}, "LAYER"),
        ({"network": {"resolution": [1, 1, 3]}}, "resolution"),
        ({"network": {"init_filters": 8}}, "do not fit"),
    ],
)
def test_files_of_auto3dseg_that_are_not_supported(make_file, tmp_path, changes, message):
    with pytest.raises(BundleError) as caught:
        convert(make_file(**changes), tmp_path / "out")
    assert message in caught.value.cause
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path"), [("monai-bundle", "monai-bundle/toy_abdomen_ct"), ("auto3dseg", "auto3dseg/model.pt")]
)
def test_labels_are_those_of_monai(foreign, tmp_path, name, path):
    bundle = convert(foreign / path, tmp_path, ConvertOptions(name="toy")).bundle
    volume = read_volume(foreign / "inputs" / "Dataset901_ToyCT" / "imagesTs" / "toyct_004_0000.nii.gz")
    result = Segmenter(bundle, Options(device="cpu")).segment(volume)
    wanted = read_labels(foreign / "expected" / name / "toyct_004.nii.gz").voxels
    assert np.mean(result.labels == wanted) >= 0.999
    for value in np.unique(wanted)[1:]:
        ours, theirs = result.labels == value, wanted == value
        assert 2 * np.sum(ours & theirs) / (np.sum(ours) + np.sum(theirs)) >= 0.999

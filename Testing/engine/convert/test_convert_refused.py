"""What cannot become a bundle is refused with its reason; nothing is installed and nothing executed."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from multiorganseg.convert.convert import ConvertOptions, convert
from multiorganseg.errors import BundleError, MultiOrganSegError, OptionError

LPS = ConvertOptions(orientation="LPS")


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., MultiOrganSegError]:
    """Try to convert, and make sure that nothing is left."""

    def attempt(path: Path, kind: type = BundleError, options: ConvertOptions = LPS) -> MultiOrganSegError:
        with pytest.raises(kind) as caught:
            convert(path, tmp_path / "out", options)
        assert not (tmp_path / "out").exists()
        assert caught.value.next_step
        return caught.value

    return attempt


def _json(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))


def test_a_truncated_checkpoint(make_model, refused):
    path = make_model() / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:5000])
    assert "damaged" in refused(path.parents[1]).cause


def test_a_tampered_checkpoint(make_model, refused):
    folder = make_model()
    path = folder / "fold_0" / "checkpoint_final.pth"
    state = torch.load(path, weights_only=False)["network_weights"]
    weights = state["encoder.stages.0.0.convs.0.conv.weight"].numpy().tobytes()
    data = bytearray(path.read_bytes())
    data[data.index(weights)] ^= 1
    path.write_bytes(data)
    assert "CRC" in refused(folder).cause


def test_a_checkpoint_that_runs_a_program(make_model, refused, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'was-here'}",)

    folder = make_model(change=lambda checkpoint: checkpoint.update(logging=Evil()))
    assert "nothing was run" in refused(folder).cause
    assert not (tmp_path / "was-here").exists()


def test_a_wrong_number_of_channels(make_model, refused):
    folder = make_model(in_channels=2)
    assert "takes 2 channels, dataset.json names 1" in refused(folder).cause


def test_a_wrong_number_of_organs(make_model, refused):
    assert "do not fit" in refused(make_model(channels=6)).cause


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("plans.json", lambda d: d["configurations"]["3d_fullres"].update(spacing=[1.0, 1.0, 1.0])),
        ("plans.json", lambda d: d["configurations"]["3d_fullres"].update(patch_size=[16, 16, 16])),
        ("plans.json", lambda d: d.update(transpose_forward=[1, 0, 2])),
        ("plans.json", lambda d: d["foreground_intensity_properties_per_channel"]["0"].update(mean=0.0)),
        ("dataset.json", lambda d: d["labels"].update({"liver": 1, "Left Kidney": 2})),
        ("dataset.json", lambda d: d.update(channel_names={"0": "T1"})),
    ],
    ids=["spacing", "patch", "transposition", "intensities", "labels", "channels"],
)
def test_plans_or_labels_that_were_changed_after_the_training(make_model, refused, name, change):
    folder = make_model()
    _json(folder, name, change)
    assert "not those that it was trained with" in refused(folder).cause


def test_plans_and_weights_that_disagree(make_model, refused):
    assert "do not fit" in refused(make_model(filters=[4, 6, 10])).cause


def test_weights_that_are_no_numbers(make_model, refused):
    def change(checkpoint):
        checkpoint["network_weights"]["encoder.stages.0.0.convs.0.conv.weight"][0, 0] = float("nan")

    assert "NaN or an infinity" in refused(make_model(change=change)).cause


def test_two_names_of_one_weight_that_differ(make_model, refused):
    def change(checkpoint):
        name = "decoder.encoder.stages.0.0.convs.0.conv.weight"
        checkpoint["network_weights"][name] = checkpoint["network_weights"][name] + 1

    assert "must be the same" in refused(make_model(change=change)).cause


def _labels(labels: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"channel_names": {"0": "CT"}, "labels": labels, **more}


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (_labels({"background": 0, **{f"organ {n}": n for n in range(1, 301)}}), "300 labels"),
        (_labels({"background": 0, "": 1}), "has no name"),
        (_labels({"background": 0, " ": 1}), "has no name"),
        (_labels({"background": 0, "a\x1b[2J": 1}), "has no name"),
        (_labels({"background": 0, "liver": 1, "ignore": 2}), "ignore label"),
        (_labels({"liver": 1}), "not 'background'"),
        (_labels({"background": 0}), "nothing but background"),
        (_labels({"background": 0, "liver": 2}), "not 1 to 1"),
        (_labels({"background": 0, "liver": "1"}), "which is none"),
        (_labels({"background": 0, "a": [1, 2], "b": [2]}), "painted is None"),
        (_labels({"background": 0, "a": [1, 2], "b": [2]}, regions_class_order=[1, 1]), "painted is"),
        (_labels({}), "no labels"),
        ({"labels": {"background": 0, "liver": 1}}, "channel_names"),
    ],
)
def test_labels_that_are_not_supported(make_model, refused, dataset, message):
    assert message in refused(make_model(dataset=dataset)).cause


def _architecture(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(plans: dict[str, Any]) -> None:
        said = plans["configurations"]["3d_fullres"]["architecture"]
        said.update({key: value for key, value in changes.items() if key == "network_class_name"})
        said["arch_kwargs"].update(
            {key: value for key, value in changes.items() if key in said["arch_kwargs"]}
        )

    return change


def _configuration(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda plans: plans["configurations"]["3d_fullres"].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_configuration(previous_stage="3d_lowres"), "second step of a cascade"),
        (_architecture(network_class_name="my.package.TransUNet"), "code of its own"),
        (_architecture(network_class_name="my.package.PlainConvUNet"), "code of its own"),
        (_architecture(norm_op="torch.nn.modules.batchnorm.BatchNorm3d"), "BatchNorm3d"),
        (_architecture(nonlin="torch.nn.ReLU"), "nonlin = torch.nn.ReLU"),
        (_architecture(dropout_op="torch.nn.Dropout3d"), "dropout_op"),
        (_architecture(kernel_sizes=[[9, 9, 9]] * 3), "kernels must be whole numbers in 1…7"),
        (_architecture(kernel_sizes=[[2, 3, 3]] * 3), "kernels must be odd"),
        (_architecture(strides=[[1, 1, 1], [4, 4, 4], [2, 2, 2]]), "strides must be"),
        (_architecture(features_per_stage=[4, 6, 10**9]), "filters must be"),
        (_architecture(features_per_stage=[1024] * 3, kernel_sizes=[[7, 7, 7]] * 3), "parameters, more than"),
        (_architecture(n_stages=50), "do not fit"),
        (_architecture(n_conv_per_stage=[2, 2, 10**6]), "encoder must be"),
        (_configuration(preprocessor_name="MyPreprocessor"), "code of its own"),
        (_configuration(normalization_schemes=["MyNormalization"]), "code of its own"),
        (_configuration(normalization_schemes=[]), "normalises 0 channels"),
        (_configuration(resampling_fn_data="resample_torch_fornnunet"), "not supported"),
        (_configuration(resampling_fn_probabilities_kwargs={"order": 0}), "not supported"),
        (_configuration(spacing=[0, 1, 1]), "no positive number"),
        (_configuration(patch_size=[9, 16, 16]), "does not fit the strides"),
        (_configuration(patch_size="large"), "not valid"),
        (_configuration(inherits_from="3d_fullres"), "which cannot be"),
        (_configuration(inherits_from="nothing"), "which cannot be"),
        (lambda plans: plans.update(transpose_forward=[0, 0, 1]), "transpose_forward"),
        (lambda plans: plans.update(image_reader_writer="NaturalImage2DIO"), "no volumes"),
        (lambda plans: plans.update(configurations={}), "no configuration"),
        (lambda plans: plans.update(foreground_intensity_properties_per_channel={}), "not valid"),
    ],
)
def test_plans_that_are_not_supported(make_model, refused, change, message):
    folder = make_model(change=lambda checkpoint: checkpoint["init_args"].pop("plans"))
    plans = json.loads((folder / "plans.json").read_text())
    change(plans)
    (folder / "plans.json").write_text(json.dumps(plans))
    assert message in refused(folder).cause


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": ' * 100_000, "\x00"])
def test_plans_that_are_no_json(make_model, refused, text):
    folder = make_model()
    (folder / "plans.json").write_text(text)
    assert "JSON" in refused(folder).cause


def test_a_folder_without_folds(make_model, refused):
    assert "no fold" in refused(make_model(folds=())).cause


def test_a_folder_without_its_data_set(make_model, refused):
    folder = make_model()
    (folder / "dataset.json").unlink()
    assert "dataset.json is missing" in refused(folder).cause


def test_several_models_are_asked_for(make_model, refused, tmp_path):
    plans = json.loads((make_model(name="A") / "plans.json").read_text())
    plans["configurations"]["3d_lowres"] = plans["configurations"]["3d_fullres"]
    folder = make_model(plans, name="B")
    make_model(plans, name="B2", configuration="3d_lowres").rename(
        folder.parent / "nnUNetTrainer__nnUNetPlans__3d_lowres"
    )
    error = refused(folder.parent, OptionError)
    assert "Which model of B" in error.problem
    assert "3d_lowres" in error.cause
    wrong = ConvertOptions(orientation="LPS", configuration="2d")
    assert "no model '2d'" in refused(folder.parent, OptionError, wrong).problem
    chosen = ConvertOptions(orientation="LPS", configuration="3d_lowres")
    done = convert(folder.parent, tmp_path / "out", chosen)
    assert done.bundle.metadata.training["configuration"] == "3d_lowres"


def test_a_folder_that_says_another_configuration_than_its_network(make_model, refused):
    folder = make_model()
    renamed = folder.rename(folder.with_name("nnUNetTrainer__nnUNetPlans__2d"))
    assert "The folder says 2d" in refused(renamed).cause


@pytest.mark.parametrize("name", ["../plans.json", "/tmp/plans.json", "a/../../plans.json", "C:\\plans.json"])
def test_a_zip_file_that_leaves_its_folder(refused, tmp_path, name):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr(name, "{}")
    assert "unsafe" in refused(tmp_path / "model.zip").cause
    assert not (tmp_path / "plans.json").exists()


def test_a_damaged_zip_file(make_model, refused, tmp_path):
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("D/plans.json", "{}" + " " * 500)
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(data)
    assert "damaged" in refused(path).cause


@pytest.mark.parametrize(
    ("dataset", "licence"),
    [
        ("Dataset301_heart_highres_1559subj", "non-commercial"),
        ("Dataset409_neuro_550subj", "non-commercial"),
        ("Dataset615_aneurysm_TOF", "CC BY-NC"),
    ],
)
def test_a_task_of_totalsegmentator_that_needs_a_licence(make_model, refused, tmp_path, dataset, licence):
    plans = json.loads((make_model() / "plans.json").read_text())
    folder = make_model({**plans, "dataset_name": dataset}, name=dataset)
    error = refused(folder)
    assert licence in error.cause
    assert "--licence" in error.next_step
    done = convert(folder, tmp_path / "out", ConvertOptions(licence="our contract 7"))
    assert done.bundle.metadata.license == "our contract 7"
    assert licence in (done.bundle.folder / "LICENSE").read_text()


def test_an_open_task_of_totalsegmentator_is_reported(make_model, tmp_path):
    dataset = "Dataset297_TotalSegmentator_total_3mm_1559subj"
    plans = json.loads((make_model() / "plans.json").read_text())
    done = convert(make_model({**plans, "dataset_name": dataset}, name=dataset), tmp_path / "out")
    assert done.orientation == "RAS"
    assert done.bundle.metadata.license == "Apache-2.0"
    assert done.bundle.metadata.training["converted_from"] == "TotalSegmentator"


def test_a_data_set_of_ones_own_with_such_a_number_is_not_bound(make_model, tmp_path):
    plans = json.loads((make_model() / "plans.json").read_text())
    done = convert(make_model({**plans, "dataset_name": "Dataset301_Knee"}, name="K"), tmp_path / "out", LPS)
    assert done.bundle.metadata.training["converted_from"] == "nnU-Net 2"


def test_other_things_are_refused_with_the_way_out(make_model, refused, tmp_path):
    folder = make_model()
    assert "one fold" in refused(folder / "fold_0").cause
    assert "checkpoint alone" in refused(folder / "fold_0" / "checkpoint_final.pth").cause
    assert "does not exist" in refused(tmp_path / "nowhere").cause
    (tmp_path / "empty").mkdir()
    assert "no known kind" in refused(tmp_path / "empty").cause
    (tmp_path / "x.txt").write_text("text")
    assert "no known kind" in refused(tmp_path / "x.txt").cause
    torch.save({"a": torch.ones(1)}, tmp_path / "y.pt")
    assert refused(tmp_path / "y.pt").cause

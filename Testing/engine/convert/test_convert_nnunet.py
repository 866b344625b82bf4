"""A folder of nnU-Net becomes a bundle that answers as the network did."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pytest

from multiorganseg.bundles import find_bundle, load_bundle
from multiorganseg.bundles.install import install_bundle
from multiorganseg.bundles.pack import pack_bundle
from multiorganseg.convert.convert import ConvertOptions, convert
from multiorganseg.convert.read_checkpoint import read_checkpoint
from multiorganseg.errors import OptionError
from multiorganseg.inference.backends import load_network
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.refine.maps import nearest
from multiorganseg.volumes.volume import Volume

LPS = ConvertOptions(orientation="LPS")


@pytest.fixture
def volume() -> Volume:
    voxels = np.random.default_rng(3).normal(50, 60, (14, 30, 34)).astype(np.float32)
    voxels[:, :4] = -1000
    return Volume(voxels, np.diag([1.7, 2.1, 3.1, 1.0]), "case")


@pytest.mark.parametrize("residual", [False, True])
def test_weights_are_those_of_the_checkpoint(make_model, tmp_path, residual):
    folder = make_model(residual=residual, folds=("0", "1"))
    bundle = convert(folder, tmp_path / "out", LPS).bundle
    assert bundle.metadata.name == "small-3d-fullres"
    assert bundle.metadata.folds == 2
    for fold in (0, 1):
        state = load_network(bundle, fold).state_dict()
        tensors = read_checkpoint(folder / f"fold_{fold}" / "checkpoint_final.pth")
        theirs = tensors.weights(tensors.tree["network_weights"])
        np.testing.assert_array_equal(state["head.weight"], theirs["decoder.seg_layers.1.weight"])
        first = "stem.0" if residual else "encoder.0.0"
        there = "encoder.stem.convs.0" if residual else "encoder.stages.0.0.convs.0"
        np.testing.assert_array_equal(state[f"{first}.conv.weight"], theirs[f"{there}.conv.weight"])
        assert sum(t.numel() for t in state.values()) == sum(
            array.size
            for name, array in theirs.items()
            if "all_modules" not in name and "decoder.encoder" not in name and "seg_layers.0" not in name
        )


def test_names_are_matched_and_the_rest_become_organs_of_their_own(make_model, tmp_path):
    done = convert(make_model(), tmp_path / "out", LPS)
    assert [(organ.key, organ.own) for organ in done.organs] == [
        ("kidney_left", False),
        ("liver", False),
        ("my_gland", True),
    ]
    assert done.organs[2].suggestions
    metadata = done.bundle.metadata
    assert metadata.labels.to_json() == {"1": "kidney_left", "2": "liver", "3": "my_gland"}
    assert metadata.custom_organs["my_gland"].name == "My gland"
    chosen = ConvertOptions(orientation="LPS", name="other", labels={"my gland": "pancreas"})
    assert (
        convert(make_model(name="D"), tmp_path / "out", chosen).bundle.metadata.labels.keys[2] == "pancreas"
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [({"no such": "liver"}, "no label 'no such'"), ({"my gland": "Big Gland!"}, "no key of an organ")],
)
def test_labels_must_be_there_and_organs_keys(make_model, tmp_path, labels, message):
    with pytest.raises(OptionError, match=message):
        convert(make_model(), tmp_path / "out", ConvertOptions(orientation="LPS", labels=labels))
    assert not (tmp_path / "out").exists()


def test_the_card_says_where_it_comes_from(make_model, tmp_path, conftest_dataset):
    folder = make_model(dataset=conftest_dataset(licence="CC BY 4.0"))
    (folder / "fold_0" / "validation").mkdir()
    summary = {"mean": {"1": {"Dice": 0.9}, "2": {"Dice": 0.8}, "3": {"Dice": float("nan")}}}
    (folder / "fold_0" / "validation" / "summary.json").write_text(json.dumps(summary))
    bundle = convert(folder, tmp_path / "out", LPS).bundle
    card = bundle.card_path.read_text(encoding="utf-8")
    assert "its source's own" in card
    assert "CC BY 4.0" in card
    assert bundle.metadata.license == "CC BY 4.0"
    assert bundle.metadata.metrics == {"kidney_left": {"dice": 0.9}, "liver": {"dice": 0.8}}
    for name, digest in bundle.metadata.training["source_files"].items():
        assert digest in card
        assert name in card
    assert len(bundle.metadata.training["source_files"]) == 3


@pytest.fixture
def conftest_dataset():
    labels = {"background": 0, "Left Kidney": 1, "liver": 2, "my gland": 3}
    return lambda **changes: {"channel_names": {"0": "CT"}, "labels": labels, **changes}


def test_an_exported_zip_file_gives_the_same_bundle(make_model, tmp_path):
    folder = make_model()
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder.parents[1]))
        archive.writestr("Dataset123_Small/progress.png", b"picture")
    first = convert(folder, tmp_path / "one", LPS).bundle
    second = convert(tmp_path / "export.zip", tmp_path / "two", LPS).bundle
    assert first.weights_path.read_bytes() == second.weights_path.read_bytes()
    assert first.metadata.preprocessing == second.metadata.preprocessing


def test_plans_of_the_old_form_are_read(make_model, tmp_path):
    plans = json.loads((make_model() / "plans.json").read_text())
    said = plans["configurations"]["3d_fullres"]
    given = said.pop("architecture")["arch_kwargs"]
    said |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": given["n_conv_per_stage"],
        "n_conv_per_stage_decoder": given["n_conv_per_stage_decoder"],
        "pool_op_kernel_sizes": given["strides"],
        "conv_kernel_sizes": given["kernel_sizes"],
    }
    plans["foreground_intensity_properties_by_modality"] = plans.pop(
        "foreground_intensity_properties_per_channel"
    )
    bundle = convert(make_model(plans, name="Old", filters=[4, 8, 8]), tmp_path / "out", LPS).bundle
    assert bundle.metadata.arguments["filters"] == [4, 8, 8]
    assert bundle.metadata.preprocessing.original.intensities[0].values["mean"] == 40.0


def test_a_configuration_inherits(make_model, tmp_path):
    plans = json.loads((make_model() / "plans.json").read_text())
    plans["configurations"]["3d_fullres_high"] = {"inherits_from": "3d_fullres", "spacing": [3.0, 1.5, 1.5]}
    folder = make_model(plans, name="Heir", configuration="3d_fullres_high")
    assert convert(folder, tmp_path / "out", LPS).bundle.metadata.preprocessing.spacing_mm == (3.0, 1.5, 1.5)


@pytest.mark.parametrize(("wanted", "folds"), [("", ["0", "1"]), ("1", ["1"]), ("all", ["all"])])
def test_folds_are_chosen(make_model, tmp_path, wanted, folds):
    folder = make_model(folds=("0", "1", "all"))
    options = ConvertOptions(orientation="LPS", folds=wanted)
    assert convert(folder, tmp_path / "out", options).bundle.metadata.training["folds"] == folds
    with pytest.raises(OptionError, match="no fold 7"):
        convert(folder, tmp_path / "out", ConvertOptions(orientation="LPS", folds="7"))


def test_a_converted_bundle_is_packed_and_installed(make_model, tmp_path, monkeypatch):
    bundle = convert(make_model(folds=("0", "1")), tmp_path / "out", LPS).bundle
    pack_bundle(bundle.folder, tmp_path / "b.zip")
    monkeypatch.setenv("MULTIORGANSEG_MODELS", str(tmp_path / "models"))
    install_bundle(tmp_path / "b.zip")
    assert find_bundle("small-3d-fullres").metadata == bundle.metadata


def test_a_missing_fold_is_found_when_a_bundle_is_loaded(make_model, tmp_path):
    bundle = convert(make_model(folds=("0", "1")), tmp_path / "out", LPS).bundle
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    del manifest["files"]["models/fold-2.safetensors"]
    (bundle.folder / "manifest.json").write_text(json.dumps(manifest))
    (bundle.folder / "models" / "fold-2.safetensors").unlink()
    with pytest.raises(Exception, match=r"fold-2\.safetensors"):
        load_bundle(bundle.folder)


def test_both_modes_segment_and_say_so(make_model, tmp_path, volume):
    bundle = convert(make_model(folds=("0", "1")), tmp_path / "out", LPS).bundle
    for mode, mirrored in (("faithful", [0, 1, 2]), ("fast", [])):
        result = Segmenter(bundle, Options(mode=mode, device="cpu", uncertainty=True)).segment(volume)
        assert result.labels.shape == volume.voxels.shape
        assert len(np.unique(result.labels)) > 1
        assert result.provenance["mode"] == mode
        assert result.provenance["mirrored_axes"] == mirrored
        assert result.provenance["folds"] == 2
        assert result.uncertainty.shape == volume.voxels.shape


@pytest.mark.parametrize("mode", ["faithful", "fast"])
@pytest.mark.parametrize(
    ("orientation", "axes"), [("LPS", [0, 1, 2]), ("RAS", [0, 1, 2]), ("LPS", [2, 0, 1])]
)
def test_a_turned_file_gives_the_same_labels(make_model, tmp_path, volume, mode, orientation, axes):
    plans = json.loads((make_model() / "plans.json").read_text())
    plans["transpose_forward"] = axes
    folder = make_model(plans, name="Turned")
    bundle = convert(folder, tmp_path / "out", ConvertOptions(orientation=orientation)).bundle
    segmenter = Segmenter(bundle, Options(mode=mode, device="cpu"))
    straight = segmenter.segment(volume).labels
    turned = np.ascontiguousarray(volume.voxels[::-1, :, ::-1].transpose(0, 2, 1))
    k, _, i = volume.voxels.shape
    affine = np.array(
        [[0, -1.7, 0, 1.7 * (i - 1)], [2.1, 0, 0, 0], [0, 0, -3.1, 3.1 * (k - 1)], [0, 0, 0, 1]], dtype=float
    )
    back = segmenter.segment(Volume(turned, affine, "turned")).labels.transpose(0, 2, 1)[::-1, :, ::-1]
    assert np.mean(back == straight) > 0.999


def test_an_orientation_is_asked_for(make_model, tmp_path):
    folder = make_model()
    with pytest.raises(OptionError, match="which way its images ran") as caught:
        convert(folder, tmp_path / "out")
    assert "--orientation RAS" in caught.value.next_step
    assert not (tmp_path / "out").exists()
    done = convert(folder, tmp_path / "out", ask_orientation=lambda: "RAS")
    assert done.bundle.metadata.preprocessing.original.orientation == "RAS"
    for answer in ("RAX", "RRS", "", "ras "):
        with pytest.raises(OptionError, match="no orientation"):
            convert(folder, tmp_path / "other", ask_orientation=lambda answer=answer: answer)


def test_a_reader_that_turns_images_says_the_orientation(make_model, tmp_path):
    plans = json.loads((make_model() / "plans.json").read_text())
    plans["image_reader_writer"] = "NibabelIOWithReorient"
    assert convert(make_model(plans, name="Reader"), tmp_path / "out").orientation == "RAS"


def test_images_may_be_taken_as_they_are_stored(make_model, tmp_path, volume):
    bundle = convert(make_model(), tmp_path / "out", ConvertOptions(orientation="stored")).bundle
    volume = Volume(volume.voxels, np.diag([2.0, 2.0, 4.0, 1.0]), "case")
    flipped = Volume(volume.voxels, volume.affine @ np.diag([-1, 1, 1, 1.0]), "flipped")
    for mode in ("faithful", "fast"):
        segmenter = Segmenter(bundle, Options(mode=mode, device="cpu"))
        same = segmenter.segment(volume).labels == segmenter.segment(flipped).labels
        assert np.mean(same) > 0.999


def test_a_bundle_is_replaced_only_on_request(make_model, tmp_path):
    folder = make_model()
    convert(folder, tmp_path / "out", LPS)
    with pytest.raises(Exception, match="lies at"):
        convert(folder, tmp_path / "out", LPS)
    convert(folder, tmp_path / "out", ConvertOptions(orientation="LPS", replace=True))


def test_keys_of_parallel_and_compiled_networks_are_understood(make_model, tmp_path):
    def change(checkpoint):
        weights = checkpoint["network_weights"]
        checkpoint["network_weights"] = {f"module._orig_mod.{name}": weights[name] for name in weights}

    plain = convert(make_model(), tmp_path / "one", LPS).bundle
    prefixed = convert(make_model(name="P", change=change), tmp_path / "two", LPS).bundle
    assert plain.weights_path.read_bytes() == prefixed.weights_path.read_bytes()


def test_the_source_stays_as_it_is(make_model, tmp_path):
    folder = make_model()
    shutil.copytree(folder, tmp_path / "copy")
    convert(folder, tmp_path / "out", LPS)
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / "copy" / path.relative_to(folder)).read_bytes()


@pytest.mark.parametrize(("orientation", "axes"), [("LPS", [0, 1, 2]), ("RAS", [2, 0, 1])])
def test_maps_for_corrections_lie_where_the_volume_does(make_model, tmp_path, volume, orientation, axes):
    plans = json.loads((make_model() / "plans.json").read_text())
    plans["transpose_forward"] = axes
    folder = make_model(plans, name="Turned")
    bundle = convert(folder, tmp_path / "out", ConvertOptions(orientation=orientation)).bundle
    k, j, i = np.indices(volume.voxels.shape)
    smooth = Volume((10 * k - 3 * j + 5 * i).astype(np.float32), volume.affine, "smooth")
    maps = Segmenter(bundle, Options(device="cpu")).record(smooth)
    seen = nearest(maps.image.values[0].astype(np.float32), np.zeros(3), maps.image.grid, volume.grid)
    inside = (slice(2, -2), slice(2, -2), slice(2, -2))
    assert np.corrcoef(seen[inside].ravel(), smooth.voxels[inside].ravel())[0, 1] > 0.97
    assert len(maps.scores.values) == len(bundle.metadata.labels.organs) + 1

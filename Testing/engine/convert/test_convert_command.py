"""From a model folder to a segmentation in two commands."""

from __future__ import annotations

import json
from pathlib import Path

import cc3d
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from multiorganseg.bundles import find_bundle
from multiorganseg.cli.app import app
from multiorganseg.convert.convert import Inspection
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.schema import typed
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MULTIORGANSEG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("MULTIORGANSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "models"


def _image(path: Path, seed: int = 1) -> Path:
    voxels = np.random.default_rng(seed).normal(60, 80, (10, 24, 26))
    voxels[:, :5] = -1000
    write_volume(Volume(voxels.astype(np.int16), np.diag([2.0, 2.0, 4.0, 1.0])), path)
    return path


def test_two_commands(make_model, tmp_path):
    done = run("models", "convert", make_model(), "--orientation", "RAS", "--label", "my gland=pancreas")
    assert done.exit_code == 0, done.output
    for text in ("Left Kidney", "kidney_left", "pancreas", "Images run to: RAS", "Licence of the weights"):
        assert text in done.output
    assert "--model" in done.output
    image = _image(tmp_path / "ct.nii.gz")
    arguments = ("-o", tmp_path / "out", "--no-preview", "--device", "cpu")
    for mode in ("faithful", "fast"):
        reported = run("segment", image, *arguments, "--model", "small-3d-fullres", "--mode", mode)
        assert reported.exit_code == 0, reported.output
        assert f'"mode": "{mode}"' in (tmp_path / "out" / "ct.statistics.json").read_text()
    shown = run("models", "show", "small-3d-fullres").output
    assert "clip_zscore" in shown
    assert "Images run to" in shown


def test_a_network_is_inspected_before_it_is_converted(make_model, models, tmp_path):
    labels = {"background": 0, "Left Kidney": 1, "kidney left": 2, "my gland": 3}
    model = make_model(dataset={"channel_names": {"0": "CT"}, "labels": labels, "licence": "CC BY 4.0"})
    done = run("models", "inspect", model, "--json", tmp_path / "found.json")
    assert done.exit_code == 0, done.output
    for text in ("nnU-Net 3d_fullres", "my gland", "or is it", "not known", "CC BY 4.0"):
        assert text in done.output
    found = typed(Inspection, json.loads((tmp_path / "found.json").read_text()), "found.json")
    assert (found.name, found.program, found.orientation, found.networks) == (
        "small-3d-fullres",
        "nnU-Net 2",
        "",
        1,
    )
    assert [organ.key for organ in found.organs] == ["kidney_left", "kidney_left", "my_gland"]
    assert [organ.own for organ in found.organs] == [False, False, True]
    refused = run("models", "convert", model, "--orientation", "RAS")
    assert refused.exit_code == 5
    assert "would both be kidney_left" in refused.output
    assert not models.exists()


def test_several_folds_are_said_before_an_organ_is_to_be_added(make_model):
    model = make_model(folds=("0", "1"))
    said = "2 networks are averaged; --fold 0 takes one"
    for command in (("inspect", model), ("convert", model, "--orientation", "RAS")):
        assert said in run("models", *command).output
    assert "averaged" not in run("models", "inspect", model, "--fold", "0").output


def test_a_parent_is_told_how_far_it_is(make_model, tmp_path):
    events = tmp_path / "events.jsonl"
    arguments = ("--orientation", "RAS", "--events", events)
    assert run("models", "convert", make_model(), *arguments).exit_code == 0
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert {event["event"] for event in told[:-1]} == {"progress"}
    assert (told[-1]["event"], told[-1]["model"]) == ("finished", "small-3d-fullres")
    assert run("models", "convert", tmp_path / "nothing", "--events", events).exit_code == 4
    failed = json.loads(events.read_text().splitlines()[-1])
    assert (failed["event"], failed["kind"]) == ("failed", "BundleError")


def test_the_fast_mode_keeps_all_pieces_as_the_source_does(make_model, tmp_path):
    """A network with random weights labels specks, of which a network of ours would keep the largest."""
    model = make_model()
    assert run("models", "convert", model, "--orientation", "RAS", "--name", "noisy").exit_code == 0
    volume = read_volume(_image(tmp_path / "ct.nii.gz"))
    found = Segmenter(find_bundle("noisy"), Options(mode="fast", device="cpu")).segment(volume).labels
    pieces = cc3d.connected_components((found == 2).astype(np.uint8), connectivity=26)
    assert pieces.max() > 1


def test_labels_are_said_as_name_and_organ(make_model):
    wrong = run("models", "convert", make_model(), "--orientation", "RAS", "--label", "liver")
    assert wrong.exit_code == 2
    assert "gives no organ" in wrong.output


def test_an_orientation_that_is_not_known_is_reported(make_model, models):
    reported = run("models", "convert", make_model())
    assert reported.exit_code == 2
    assert "--check IMAGE LABELS" in reported.output
    assert not models.exists()


def test_a_check_finds_the_orientation(make_model, tmp_path, models):
    folder = make_model()
    assert run("models", "convert", folder, "--orientation", "RAS", "--name", "known").exit_code == 0
    image = _image(tmp_path / "ct.nii.gz")
    found = ("--model", "known", "--formats", "nii.gz", "--no-mirroring", "--device", "cpu", "--no-preview")
    assert run("segment", image, "-o", tmp_path / "labels", *found).exit_code == 0
    labels = next((tmp_path / "labels").glob("*.nii.gz"))
    assert len(np.unique(read_labels(labels).voxels)) > 2
    done = run("models", "convert", folder, "--check", image, labels, "--name", "checked")
    assert done.exit_code == 0, done.output
    assert "RAS: mean Dice 1.000  ← taken" in done.output
    assert done.output.count("mean Dice") == 9
    metadata = find_bundle("checked").metadata
    assert metadata.preprocessing.original.orientation == "RAS"
    assert metadata.training["check"]["dice_by_orientation"]["RAS"] == 1.0


def test_an_error_says_its_cause_and_installs_nothing(make_model, models):
    reported = run("models", "convert", make_model(folds=()), "--orientation", "RAS")
    assert reported.exit_code == 4
    assert "no fold" in reported.output
    assert not models.exists()


def test_several_images_of_a_patient_lie_side_by_side(make_model, tmp_path):
    plans = _plans_of(make_model)
    said = plans["configurations"]["3d_fullres"]
    said |= {"normalization_schemes": ["ZScoreNormalization"] * 2, "use_mask_for_norm": [True, False]}
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    names = {"0": "T1", "1": "T2"}
    dataset = {"channel_names": names, "labels": labels, "regions_class_order": [1, 2]}
    model = make_model(plans, dataset, name="Two", in_channels=2, channels=2)
    assert run("models", "convert", model, "--orientation", "LPS", "--name", "two").exit_code == 0
    folder = tmp_path / "images"
    first = _image(folder / "a_0000.nii.gz")
    arguments = ("-o", tmp_path / "out", "--model", "two", "--no-preview", "--device", "cpu")
    missing = run("segment", first, *arguments)
    assert missing.exit_code == 3
    assert "a_0001.nii.gz is not there" in missing.output
    _image(folder / "a_0001.nii.gz", seed=2)
    for mode in ("faithful", "fast"):
        done = run("segment", folder, *arguments, "--mode", mode, "--formats", "nii.gz")
        assert done.exit_code == 0, done.output
        assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["a_0000.seg.nii.gz"]
    assert read_volume(tmp_path / "out" / "a_0000.seg.nii.gz").voxels.max() <= 2
    shifted = read_volume(first)
    write_volume(Volume(shifted.voxels, np.diag([2.0, 2.0, 5.0, 1.0])), folder / "a_0001.nii.gz")
    other = run("segment", first, *arguments)
    assert other.exit_code == 3
    assert "different grids" in other.output


def _plans_of(make_model) -> dict:
    return json.loads((make_model() / "plans.json").read_text())

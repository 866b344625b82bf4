"""Killed at any step, nothing is lost, and the next run leaves nothing behind."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from multiorganseg import atomic
from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles import install_bundle, load_bundle, pack_bundle, read_weights, write_bundle
from multiorganseg.bundles.folders import visible_folders
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from multiorganseg_training.project import (
    LabelStatus,
    add_case,
    create_project,
    load_project,
    save_annotation,
    tidy,
)
from multiorganseg_training.recipe_dict import recipe_from_dict, recipe_to_dict

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="children are made by fork")
_spec = importlib.util.spec_from_file_location("kills", Path(__file__).with_name("kills.py"))
assert _spec is not None
assert _spec.loader is not None
kills = importlib.util.module_from_spec(_spec)
sys.modules["kills"] = kills
_spec.loader.exec_module(kills)

SHAPE = (4, 6, 8)
RECIPE = {
    "name": "tiny-ct",
    "data": {"labels": {"1": "liver"}},
    "network": {"arguments": {"filters": [8, 8]}, "patch_shape": [8, 16, 16]},
}


def _volume(seed: int) -> Volume:
    return Volume(np.random.default_rng(seed).integers(-900, 900, SHAPE).astype(np.int16), np.eye(4))


def _labels() -> Volume:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1:3, 2:4] = 1
    return Volume(voxels, np.eye(4))


def _assert_clean(campaign) -> None:
    assert len(campaign.steps) > 4, campaign.steps
    assert not campaign.lost, (campaign.row(), campaign.lost)
    assert not campaign.leftovers, (campaign.row(), campaign.leftovers)


def test_the_harness_finds_a_file_that_is_not_written_atomically(tmp_path):
    def make(folder: Path) -> None:
        (folder / "note.txt").write_text("old", encoding="utf-8")

    def rewrite(folder: Path) -> None:
        with (folder / "note.txt").open("w", encoding="utf-8") as sink:
            sink.write("new")
            sink.flush()
        (folder / "half.tmp").write_text("half", encoding="utf-8")
        (folder / "half.tmp").rename(folder / "whole.txt")

    def check(folder: Path) -> None:
        assert (folder / "note.txt").read_text(encoding="utf-8") in ("old", "new")
        assert not (folder / "half.tmp").exists()

    found = kills.kill_everywhere("naive", make, rewrite, check, tmp_path, again=lambda folder: None)
    assert [step.split()[0] for step in found.steps] == ["open", "open", "os.rename"]
    assert set(found.lost) == {3}
    assert found.leftovers == {3: ["half.tmp"]}


def test_a_file(tmp_path):
    def check(folder: Path) -> None:
        assert (folder / "table.csv").read_text(encoding="utf-8") in ("old", "new")

    found = kills.kill_everywhere(
        "file",
        lambda folder: write_text_atomically(folder / "table.csv", "old"),
        lambda folder: write_text_atomically(folder / "table.csv", "new"),
        check,
        tmp_path,
    )
    _assert_clean(found)
    assert sum(step == "os.fsync" for step in found.steps) == 2, "the file, then its folder"


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "in two steps"])
def test_a_bundle_that_replaces_another(tmp_path, metadata, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    zips, said = {}, replace(metadata, arguments={})
    for version in ("1.0.0", "1.1.0"):
        folder = tmp_path / version / said.name
        array = np.full((3, 2), float(version[2]), np.float32)
        write_bundle(folder, replace(said, version=version), {"weight": array}, "# Card", "Licence")
        zips[version] = pack_bundle(folder, tmp_path / f"{version}.zip")

    def check(folder: Path) -> None:
        (place,) = visible_folders(folder)
        bundle = load_bundle(place)
        assert read_weights(bundle)["weight"][0, 0] == float(bundle.metadata.version[2])

    _assert_clean(
        kills.kill_everywhere(
            "bundle",
            lambda folder: install_bundle(zips["1.0.0"], folder),
            lambda folder: install_bundle(zips["1.1.0"], folder, replace=True),
            check,
            tmp_path / "kills",
        )
    )


def _project(folder: Path) -> None:
    create_project(folder / "p", "p", LabelTable({1: "liver", 2: "spleen"}))
    add_case(folder / "p", "a", _volume(1), _labels(), {"liver": LabelStatus.ANNOTATED})


def _check_project(folder: Path) -> None:
    project = load_project(folder / "p")
    for name in project.cases:
        read_volume(project.image_path(name))
        labels = project.labels_path(name)
        assert labels is None or read_labels(labels).voxels.any()
    assert np.count_nonzero(read_labels(project.labels_path("a")).voxels == 1) == 32


def test_a_case_that_is_added(tmp_path):
    def add(folder: Path) -> None:
        if "b" not in load_project(folder / "p").cases:
            add_case(folder / "p", "b", _volume(2), _labels(), {"liver": LabelStatus.ANNOTATED})
        assert tidy(folder / "p") == []

    _assert_clean(kills.kill_everywhere("add", _project, add, _check_project, tmp_path))


def test_an_annotation(tmp_path):
    spleen = np.zeros(SHAPE, np.uint8)
    spleen[0, 0] = 2

    def annotate(folder: Path) -> None:
        save_annotation(folder / "p", "a", spleen, {"spleen": LabelStatus.ANNOTATED})

    def check(folder: Path) -> None:
        _check_project(folder)
        project = load_project(folder / "p")
        voxels = read_labels(project.labels_path("a")).voxels
        annotated = project.matrix.status("a", "spleen") is LabelStatus.ANNOTATED
        assert not annotated or np.count_nonzero(voxels == 2) == SHAPE[2], "annotated, and nothing drawn"

    _assert_clean(kills.kill_everywhere("annotate", _project, annotate, check, tmp_path))


def test_a_checkpoint(tmp_path):
    recipe = recipe_to_dict(recipe_from_dict(RECIPE))

    def save(folder: Path, iteration: int) -> None:
        state = {"weight": torch.full((4,), float(iteration))}
        optimiser = {"state": {}, "param_groups": []}
        generator = dict(np.random.default_rng(iteration).bit_generator.state)
        save_checkpoint(Checkpoint(iteration, recipe, state, state, 1, {}, optimiser, generator), folder)

    def check(folder: Path) -> None:
        loaded = load_checkpoint(folder)
        assert loaded is not None
        assert float(loaded.network["weight"][0]) == loaded.iteration

    _assert_clean(
        kills.kill_everywhere(
            "checkpoint", lambda folder: save(folder, 1), lambda folder: save(folder, 2), check, tmp_path
        )
    )


def test_outputs_of_a_segmentation_are_tidied_by_the_next(tmp_path):
    def write(folder: Path) -> None:
        write_volume(_volume(3), folder / "out" / "ct.nii.gz")
        write_text_atomically(folder / "out" / "ct.csv", "organ\n")

    def check(folder: Path) -> None:
        if (folder / "out" / "ct.nii.gz").exists():
            read_volume(folder / "out" / "ct.nii.gz")

    _assert_clean(kills.kill_everywhere("outputs", lambda folder: None, write, check, tmp_path))


def test_publishing_over_a_published_bundle(tmp_path, metadata):
    said = replace(metadata, arguments={})

    def publish(folder: Path, version: str) -> None:
        kept = folder / "bundles" / said.name
        array = np.full((3, 2), float(version[2]), np.float32)
        write_bundle(
            kept, replace(said, version=version), {"weight": array}, "# Card", "Licence", replace=True
        )

    def check(folder: Path) -> None:
        (place,) = visible_folders(folder / "bundles")
        bundle = load_bundle(place)
        assert read_weights(bundle)["weight"][0, 0] == float(bundle.metadata.version[2])

    _assert_clean(
        kills.kill_everywhere(
            "publish",
            lambda folder: publish(folder, "1.0.0"),
            lambda folder: publish(folder, "1.1.0"),
            check,
            tmp_path,
        )
    )

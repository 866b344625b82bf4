from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from multiorganseg.bundles import find_bundle, load_bundle, read_weights, write_bundle
from multiorganseg.bundles.manifest import file_digest
from multiorganseg.errors import BundleError, MultiOrganSegError, ResourceError, TrainingError
from multiorganseg.projects.acceptance import load_acceptance, save_acceptance
from multiorganseg_training.acceptance.check import check_run
from multiorganseg_training.acceptance.compare import CheckOptions
from multiorganseg_training.acceptance.publish import name_with_organs
from multiorganseg_training.acceptance.publish_organ import (
    PublishOptions,
    publish_organ,
    roll_back,
)
from multiorganseg_training.acceptance.publish_organ import publish_organ as publishing_function
from multiorganseg_training.cli.app import app
from multiorganseg_training.run.checkpoint import FILE_NAME, load_checkpoint, save_checkpoint

NAME = "liver-ct-plus-spleen"


@pytest.fixture
def judged(run: Path, project, installed_base) -> Path:
    """The run after an acceptance check that it passed."""
    assert check_run(run, project, base=installed_base).passed
    return run


@pytest.fixture
def failed(run: Path, project, installed_base) -> Path:
    """The run after an acceptance check that it did not pass."""
    assert not check_run(run, project, CheckOptions(floor=0.999), base=installed_base).passed
    return run


def bytes_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_digest(path) for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_passed_is_in_use_at_once(judged, project, models, full, phantom_run):
    before = bytes_of(models / "liver-ct")
    published = publish_organ(project, judged, PublishOptions())
    said = find_bundle(NAME).metadata
    assert published.kept.folder == project.folder / "bundles" / f"{NAME}-1.0.0"
    assert published.installed.digest == published.kept.digest
    assert (said.name, said.version, said.license) == (NAME, "1.0.0", "CC-BY-4.0")
    assert set(said.metrics) == {"liver", "spleen"}
    acceptance = load_acceptance(judged)
    assert said.metrics["spleen"]["dice"] == pytest.approx(acceptance.organs["spleen"].dice_new, abs=1e-3)
    assert said.training["base"]["name"] == "liver-ct"
    assert said.training["base"]["sha256"] == acceptance.base_sha256
    assert said.training["acceptance"]["passed"] is True
    assert said.training["acceptance"]["training_cases"] == {"spleen": 2}
    assert bytes_of(models / "liver-ct") == before, "the base is never touched"
    ours, trained = read_weights(published.installed), read_weights(full)
    assert all(np.array_equal(ours[name], trained[name]) for name in trained)
    assert (published.kept.folder / "LICENSE").read_text("utf-8") == "The licence's text\n"


def test_the_card_and_the_provenance_name_no_case(judged, project):
    kept = publish_organ(project, judged, PublishOptions()).kept
    card = kept.card_path.read_text(encoding="utf-8")
    assert "from 2 annotated cases" in card
    assert "inherited from liver-ct" in card
    assert "| spleen | new | pass |" in card
    assert "case_" not in card
    assert "case_" not in json.dumps(dict(kept.metadata.training))


def test_figures_that_were_not_measured_anew_are_not_claimed(judged, project):
    acceptance = load_acceptance(judged)
    liver = replace(acceptance.organs["liver"], reference="base", dice_old=None, difference=None)
    save_acceptance(replace(acceptance, organs={**acceptance.organs, "liver": liver}), judged)
    kept = publish_organ(project, judged, PublishOptions()).kept
    assert set(kept.metadata.metrics) == {"spleen"}
    assert "| liver | old | pass | 0 | – | – | – |" in kept.card_path.read_text(encoding="utf-8")


def test_a_run_that_failed_is_refused(failed, project, models):
    with pytest.raises(TrainingError, match="did not pass the acceptance check") as caught:
        publish_organ(project, failed, PublishOptions())
    assert "spleen: fail" in caught.value.cause
    assert "report.md" in caught.value.next_step
    assert not (project.folder / "bundles").exists()
    assert not (models / NAME).exists()


def test_a_reason_publishes_it_and_stands_in_the_card(failed, project):
    options = PublishOptions(force="Only for the\nphantom study")
    kept = publish_organ(project, failed, options).kept
    card = kept.card_path.read_text(encoding="utf-8")
    assert (
        "**Published without having passed the acceptance check.** Reason given: Only for the phantom study"
        in card
    )
    assert kept.metadata.training["acceptance"]["published_all_the_same"] == "Only for the\nphantom study"
    assert kept.metadata.training["acceptance"]["passed"] is False


def test_a_run_without_an_acceptance_check_is_refused_even_with_a_reason(run, project, models):
    with pytest.raises(TrainingError, match="not been through the acceptance check"):
        publish_organ(project, run, PublishOptions(force="because"))


def test_a_run_that_was_trained_further_is_refused(judged, project):
    checkpoint = load_checkpoint(judged)
    moved = {name: tensor + 0.01 for name, tensor in checkpoint.average.items()}
    (judged / FILE_NAME).unlink()
    save_checkpoint(replace(checkpoint, average=moved), judged)
    assert torch.isfinite(next(iter(moved.values()))).all()
    with pytest.raises(TrainingError, match="trained further"):
        publish_organ(project, judged, PublishOptions())


def test_versions_count_up_and_roll_back(judged, project, models):
    versions = [publish_organ(project, judged, PublishOptions()).kept.metadata.version for _ in range(3)]
    assert versions == ["1.0.0", "1.1.0", "1.2.0"]
    base = bytes_of(models / "liver-ct")
    assert find_bundle(NAME).metadata.version == "1.2.0"
    assert roll_back(project, NAME).metadata.version == "1.1.0"
    assert find_bundle(NAME).metadata.version == "1.1.0"
    assert roll_back(project, NAME).metadata.version == "1.0.0"
    assert roll_back(project, NAME) is None
    assert not (models / NAME).exists()
    with pytest.raises(BundleError):
        roll_back(project, NAME)
    assert bytes_of(models / "liver-ct") == base
    assert len(list((project.folder / "bundles").iterdir())) == 3
    after = publish_organ(project, judged, PublishOptions())
    assert after.installed.metadata.version == "1.3.0", "a version that was rolled back is not given again"


def test_a_version_can_be_chosen_but_not_taken_twice(judged, project):
    assert publish_organ(project, judged, PublishOptions(version="2.0.0")).kept.metadata.version == "2.0.0"
    for taken in ("2.0.0", "1.9.0"):
        with pytest.raises(TrainingError, match="not newer"):
            publish_organ(project, judged, PublishOptions(version=taken))
    with pytest.raises(TrainingError, match="no version"):
        publish_organ(project, judged, PublishOptions(version="two"))


def test_names_that_belong_to_others_are_refused(judged, project, models, full):
    (models.parent / "Resources" / "Models" / "abdomen-ct").mkdir()
    metadata = replace(full.metadata, name="a-colleagues")
    write_bundle(models / "a-colleagues", metadata, read_weights(full), "# Card", "Text")
    for name in ("abdomen-ct", "liver-ct", "a-colleagues", "Über", "../evil", "a/b"):
        with pytest.raises(TrainingError, match="cannot be called"):
            publish_organ(project, judged, PublishOptions(name=name))
    assert load_bundle(models / "a-colleagues").metadata == metadata
    assert publish_organ(project, judged, PublishOptions(name="mine")).installed.folder == models / "mine"


def test_rolling_back_what_others_installed_is_refused(project, models, full):
    for name in ("liver-ct", "abdomen-ct"):
        if name == "abdomen-ct":
            (models.parent / "Resources" / "Models" / name).mkdir()
        with pytest.raises(TrainingError):
            roll_back(project, name)
    assert load_bundle(models / "liver-ct")
    with pytest.raises(BundleError):
        roll_back(project, "nothing")


def test_a_failed_installation_leaves_nothing_behind(judged, project, models, monkeypatch):
    def full_disk(folder):
        msg = "The disk is full."
        raise ResourceError(msg)

    module = __import__(publishing_function.__module__, fromlist=["install_folder"])
    monkeypatch.setattr(module, "install_folder", full_disk)
    with pytest.raises(MultiOrganSegError, match="disk is full"):
        publish_organ(project, judged, PublishOptions())
    assert list((project.folder / "bundles").iterdir()) == []
    monkeypatch.undo()


def test_a_moved_project_still_publishes(judged, project, tmp_path):
    moved = tmp_path / "anderswo"
    shutil.move(project.folder, moved)
    elsewhere = replace(project, folder=moved)
    kept = publish_organ(elsewhere, moved / "runs" / judged.name, PublishOptions()).kept
    assert kept.folder.parent == moved / "bundles"


@pytest.mark.parametrize(
    ("organs", "name"),
    [
        (["gallbladder"], "abdomen-ct-plus-gallbladder"),
        (["tooth11", "tooth12"], "abdomen-ct-plus-tooth11-tooth12"),
        (["portal_vein_and_splenic_vein", "inferior_vena_cava", "aorta"], "abdomen-ct-plus-3-organs"),
    ],
)
def test_names_tell_what_was_learned(organs, name):
    assert name_with_organs("abdomen-ct", organs) == name
    assert len(name_with_organs("x" * 64, organs)) <= 64


def test_the_commands_from_check_to_rollback(run, project, models):
    def call(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, list(arguments))
        return result.exit_code, " ".join((result.output + result.stderr).split())

    folder = str(project.folder)
    code, text = call("acceptance", run.name, "--project", folder, "--base", "liver-ct", "--quality", "fast")
    assert code == 0, text
    assert "Acceptance check (hold-out): passed" in text
    code, text = call("project", "publish", folder, run.name)
    assert code == 0, text
    assert f"Published {NAME} 1.0.0" in text
    code, text = call("project", "rollback", folder, NAME)
    assert code == 0, text
    assert "no longer installed" in text
    strict = ("--floor", "0.999", "--quality", "fast")
    code, text = call("acceptance", run.name, "-p", folder, "--base", "liver-ct", *strict)
    assert code == TrainingError.exit_code
    assert "not passed" in text
    code, text = call("project", "publish", folder, run.name)
    assert code == TrainingError.exit_code
    code, text = call("acceptance", "nothing", "-p", folder)
    assert code == TrainingError.exit_code
    assert run.name in text

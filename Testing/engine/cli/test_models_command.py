from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from multiorganseg.bundles import Bundle, Metadata, Preprocessing, pack_bundle, write_bundle
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.models import models_app
from multiorganseg.errors import VolumeError
from multiorganseg.folders import resources_dir
from multiorganseg.networks.names import ARCHITECTURES
from multiorganseg.organs.labels import LabelTable


def _run(*arguments: object, answer: str | None = None) -> Result:
    runner = CliRunner(env={"COLUMNS": "200"})
    return runner.invoke(models_app, [str(argument) for argument in arguments], input=answer)


def _make(folder: Path) -> Bundle:
    metadata = Metadata(
        schema_version=1,
        name=folder.name,
        version="1.2.0",
        description="Two organs [bold]for tests[/bold].",
        modality="CT",
        architecture=ARCHITECTURES[0],
        arguments={"in_channels": 1, "out_channels": 3},
        activation="softmax",
        labels=LabelTable.numbered(["spleen", "liver"]),
        preprocessing=Preprocessing((3.0, 1.5, 1.5), "window", (-160.0, 240.0)),
        patch_shape=(64, 96, 96),
        feature_channels=16,
        license="Apache-2.0",
        metrics={"spleen": {"dice": 0.9}, "liver": {"dice": 0.95, "hd95": 4.25}},
        training={"cases": 16},
    )
    return write_bundle(folder, metadata, {"w": np.ones(3, np.float32)}, "# The *card*", "Licence")


@pytest.fixture
def user(tmp_path, monkeypatch) -> Path:
    resources = tmp_path / "Resources"
    shutil.copytree(resources_dir() / "Organs", resources / "Organs")
    monkeypatch.setenv("MULTIORGANSEG_RESOURCES", str(resources))
    monkeypatch.setenv("MULTIORGANSEG_MODELS", str(tmp_path / "Modèles 模型"))
    return tmp_path / "Modèles 模型"


@pytest.fixture
def bundled(user, tmp_path) -> Bundle:
    return _make(tmp_path / "Resources" / "Models" / "abdomen-test")


def test_list_of_none(user):
    result = _run("list")
    assert result.exit_code == 0
    assert "No bundle is installed" in result.stdout
    assert str(user) in result.stdout


def test_list_shows_sound_hidden_and_damaged_bundles(bundled, user):
    _make(user / "abdomen-test")
    broken = _make(user / "broken")
    broken.card_path.unlink()
    result = _run("list")
    assert result.exit_code == 0
    rows = [line for line in result.stdout.splitlines() if "1.2.0" in line or "damaged" in line]
    assert len(rows) == 3
    assert "0.925" in rows[0]
    assert "[bold]for tests[/bold]" in rows[0]
    assert "docs/README.md is missing" in rows[1]
    assert "hidden" in rows[2]


def test_show(bundled):
    result = _run("show", "abdomen-test")
    assert result.exit_code == 0
    for fact in ("3 × 1.5 × 1.5 mm", "-160…240 HU", "Apache-2.0", bundled.digest, "4.250", '{"cases": 16}'):
        assert fact in result.stdout
    assert json.loads(_run("show", "abdomen-test", "--json").stdout)["labels"] == {
        "1": "spleen",
        "2": "liver",
    }
    assert "The card" in _run("show", str(bundled.folder), "--card").stdout


def test_an_error_goes_to_standard_error_with_its_exit_code(bundled):
    result = _run("show", "abdomen-tset")
    assert result.exit_code == 4
    assert result.stdout == ""
    assert "There is no bundle 'abdomen-tset'." in result.stderr
    assert "Did you mean 'abdomen-test'?" in result.stderr


def test_verify(bundled, user):
    assert _run("verify").exit_code == 0
    assert "verified abdomen-test 1.2.0" in _run("verify", "abdomen-test").stdout
    broken = _make(user / "broken")
    broken.weights_path.write_bytes(b"")
    result = _run("verify")
    assert result.exit_code == 4
    assert "models/model.safetensors has 0 bytes" in result.stderr
    assert "verified abdomen-test" in result.stdout
    assert _run("verify", "abdomen-test").exit_code == 0
    assert _run("verify", "nowhere", "abdomen-test").exit_code == 4


def test_pack_install_and_remove(bundled, user, tmp_path):
    zip_file = tmp_path / "mit Leerzeichen ü.zip"
    assert _run("pack", "abdomen-test", "-o", zip_file).exit_code == 0
    result = _run("install", zip_file)
    assert result.exit_code == 0
    assert str(user / "abdomen-test") in result.stdout
    result = _run("install", zip_file)
    assert result.exit_code == 4
    assert "--replace" in result.stderr
    assert _run("install", zip_file, "--replace").exit_code == 0
    assert _run("remove", "abdomen-test", answer="n\n").exit_code != 0
    assert (user / "abdomen-test").exists()
    assert _run("remove", "abdomen-test", "--yes").exit_code == 0
    assert not (user / "abdomen-test").exists()
    assert _run("remove", "abdomen-test", "--yes").exit_code == 4
    assert bundled.folder.exists()


@pytest.mark.parametrize("name", ["LICENSE", "configs/metadata.json"])
def test_pack_replaces_no_file_of_the_bundle(bundled, name):
    before = (bundled.folder / name).read_bytes()
    result = _run("pack", bundled.folder, "-o", bundled.folder / name)
    assert result.exit_code == 6, result.output
    assert (bundled.folder / name).read_bytes() == before


def test_install_does_not_replace_the_folder_that_holds_the_zip(bundled, user, tmp_path):
    zip_file = tmp_path / "shared.zip"
    assert _run("pack", "abdomen-test", "-o", zip_file).exit_code == 0
    assert _run("install", zip_file).exit_code == 0
    inside = user / "abdomen-test" / "shared.zip"
    zip_file.rename(inside)
    result = _run("install", inside, "--replace")
    assert result.exit_code == 6, result.output
    assert inside.is_file()


def test_pack_names_the_file_itself(bundled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _run("pack", "abdomen-test").exit_code == 0
    expected = pack_bundle(bundled.folder, tmp_path / "again.zip").read_bytes()
    assert (tmp_path / "abdomen-test-1.2.0.zip").read_bytes() == expected


def test_an_unsafe_zip_file_is_refused(user, tmp_path):
    (tmp_path / "no.zip").write_bytes(b"not a zip file")
    result = _run("install", tmp_path / "no.zip")
    assert result.exit_code == 4
    assert "no.zip was not installed" in result.stderr


def test_errors_are_shown_as_they_are(capsys):
    problem = "[red]x[/red]"
    with pytest.raises(typer.Exit) as caught, reported_errors():
        raise VolumeError(problem, cause="a\x1b[2Jb " + "long " * 50, next_step="Mend it.")
    assert caught.value.exit_code == 3
    text = capsys.readouterr().err
    assert text.startswith("Error: [red]x[/red]\na�[2Jb long")
    assert text.endswith("long \nNext: Mend it.\n")


def test_other_errors_are_not_swallowed():
    with pytest.raises(ZeroDivisionError), reported_errors():
        _ = 1 / 0

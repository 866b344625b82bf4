from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from multiorganseg.bundles import load_bundle
from multiorganseg_training.cli.app import app
from multiorganseg_training.run.checkpoint import load_checkpoint


def _run(*arguments: object) -> Result:
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})
    return runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def recipe_file(phantom_recipe, save_recipe, tmp_path) -> Path:
    return save_recipe(tmp_path / "recipe.toml", phantom_recipe(optimisation={"iterations": 3}))


@pytest.fixture
def texts(tmp_path) -> tuple[object, ...]:
    (tmp_path / "notes.md").write_text("## Data\n\nBlocks [/red] of Öl.", encoding="utf-8")
    (tmp_path / "licence.txt").write_text("Licence text", encoding="utf-8")
    files = ("--notes", tmp_path / "notes.md", "--license-file", tmp_path / "licence.txt")
    return (*files, "--license", "CC-BY-4.0")


def test_help():
    result = _run("--help")
    assert result.exit_code == 0
    assert "fit" in result.stdout
    assert "publish" in result.stdout


def test_help_of_fit():
    result = _run("fit", "--help")
    assert result.exit_code == 0
    for text in (
        "the same command again goes on where a stopped run was",
        "Ctrl-C saves a checkpoint first",
        "Training/recipes/abdomen-ct.toml",
        "Folder with images/ and labels/",
        "Folder of the run; else runs/ and the recipe's name.",
        "auto, cpu, cuda or mps",
    ):
        assert text in result.stdout


def test_help_of_publish():
    result = _run("publish", "--help")
    assert result.exit_code == 0
    for text in ("--notes", "--license-file", "--license ", "--version", "--output", "three numbers"):
        assert text in result.stdout


def test_without_a_command_the_help_is_shown():
    result = _run()
    assert result.exit_code == 2
    assert "publish" in result.output


def test_a_series_of_runs_with_seeds_of_their_own(recipe_file, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ("fit", recipe_file, "--data", place.data, "--device", "cpu", "--cache", place.cache)
    first = _run(*common, "--run", "first", "--seed", 7)
    assert first.exit_code == 0, first.output
    second = _run(*common, "--run", "second", "--seed", 8, "--initial", "first")
    assert second.exit_code == 0, second.output
    states = [load_checkpoint(tmp_path / name) for name in ("first", "second")]
    assert [state.recipe["seed"] for state in states] == [7, 8]
    assert states[1].recipe["network"]["initial"] == "first"
    start, end = (state.network["head.weight"].flatten() for state in states)
    assert np.corrcoef(start, end)[0, 1] > 0.8


def test_fit_and_publish(recipe_file, texts, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MULTIORGANSEG_CACHE", str(tmp_path / "cache"))
    result = _run("fit", recipe_file, "--data", place.data, "--device", "cpu")
    assert result.exit_code == 0, result.output
    run = tmp_path / "runs" / "phantom-ct"
    checkpoint = load_checkpoint(run)
    assert checkpoint is not None
    assert checkpoint.iteration == 3
    assert len(list((tmp_path / "cache" / "cases").glob("*.npz"))) == 3
    for text in ("liver", "spleen", "mean", "averaged", f"publish {Path('runs') / 'phantom-ct'}"):
        assert text in result.stdout

    result = _run("publish", run, "--data", place.data, "-o", tmp_path / "phantom-ct", *texts)
    assert result.exit_code == 0, result.output
    assert load_bundle(tmp_path / "phantom-ct").metadata.version == "1.0.0"
    assert "Blocks [/red] of Öl." in result.stdout
    assert f"Written: {tmp_path / 'phantom-ct'}" in result.stdout


def test_fit_without_a_fold_shows_no_table(phantom_recipe, save_recipe, place, tmp_path):
    recipe = phantom_recipe(data={"validation": []}, optimisation={"iterations": 1})
    path = save_recipe(tmp_path / "recipe.toml", recipe)
    result = _run("fit", path, "--data", place.data, "--run", place.run, "--cache", place.cache)
    assert result.exit_code == 0, result.output
    assert "Mean Dice" not in result.stdout


def test_a_recipe_is_not_replaced_by_that_of_the_run(recipe_file, place, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    own = recipe_file.rename(run / "recipe.json")
    said = own.read_bytes()
    result = _run("fit", own, "--data", place.data, "--run", run, "--cache", place.cache, "--device", "cpu")
    assert result.exit_code == 6
    assert own.read_bytes() == said


def test_a_missing_recipe(tmp_path):
    result = _run("fit", tmp_path / "none.toml", "--data", tmp_path)
    assert result.exit_code == 8
    assert "Cannot read the recipe" in result.stderr
    assert "Next: Start from one in Training/recipes." in result.stderr


def test_missing_data(recipe_file, tmp_path):
    result = _run("fit", recipe_file, "--data", tmp_path / "none", "--run", tmp_path / "run")
    assert result.exit_code == 8
    assert "is not complete" in result.stderr


def test_an_unknown_device(recipe_file, place):
    result = _run("fit", recipe_file, "--data", place.data, "--run", place.run, "--device", "abacus")
    assert result.exit_code == 6
    assert "'abacus' is not available" in result.stderr


def test_data_is_asked_for(recipe_file):
    assert _run("fit", recipe_file).exit_code == 2


def test_publish_without_a_run(texts, place, tmp_path):
    result = _run("publish", tmp_path, "--data", place.data, "-o", tmp_path / "b", *texts)
    assert result.exit_code == 8
    assert "holds no checkpoint" in result.stderr


def test_publish_with_notes_that_are_not_utf_8(texts, place, tmp_path):
    (tmp_path / "notes.md").write_bytes("Öl".encode("latin-1"))
    result = _run("publish", tmp_path, "--data", place.data, "-o", tmp_path / "b", *texts)
    assert result.exit_code == 2
    assert "UTF-8" in result.stderr


def test_publish_without_the_notes(texts, place, tmp_path):
    (tmp_path / "notes.md").unlink()
    result = _run("publish", tmp_path, "--data", place.data, "-o", tmp_path / "b", *texts)
    assert result.exit_code == 2
    assert "notes.md" in result.stderr

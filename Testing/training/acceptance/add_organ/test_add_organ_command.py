from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from multiorganseg.children import module_environment
from multiorganseg.projects.runs import request_pause
from multiorganseg_training.acceptance import add_organ as add_organ_module
from multiorganseg_training.cli.app import app

TRAINING = Path(__file__).parents[4] / "Training"


@pytest.fixture
def invoke(make_project, tmp_path: Path):
    """Run `add-organ` on a project of four cases."""
    project = make_project(4).folder
    fixed = ["--project", str(project), "--base", "liver-ct", "--cache", str(tmp_path / "prepared")]

    def run(*arguments: str):
        return CliRunner().invoke(app, ["add-organ", *fixed, "--device", "cpu", *arguments])

    run.project = project
    return run


def test_from_the_command_to_the_next_one(invoke):
    result = invoke("--organ", "spleen", "--iterations", "4")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "Warning: Only 4 iterations" in said
    assert "spleen" in said
    assert "Acceptance check (hold-out):" in said
    assert "report.md" in said
    assert "project publish" in said
    run = invoke.project / "runs" / "liver-ct-plus-spleen"
    assert (run / "acceptance.json").is_file()
    assert (run / "report.md").is_file()


def test_a_pause_is_no_failure(invoke, monkeypatch):
    def plan(*arguments):
        request_pause(invoke.project / "runs" / "mine")
        return real(*arguments)

    real = add_organ_module.fit_memory
    monkeypatch.setattr(add_organ_module, "fit_memory", plan)
    monkeypatch.setattr(
        add_organ_module, "check_run", lambda *a, **k: SimpleNamespace(passed=True, organs={})
    )
    result = invoke("--organ", "spleen", "--iterations", "4", "--run", "mine")
    assert result.exit_code == 0, result.output
    assert "The same command goes on from here" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (("--organ", "liver"), "knows liver already", 8),
        (("--organ", "spleen", "--time", "soon"), "'soon' is not a time", 2),
        (("--organ", "spleen", "--base", "magic"), "There is no bundle 'magic'", 4),
        (("--organ", "spleen", "--run", "../else"), "cannot be the name of a run", 2),
        (("--organ", "spleen", "--project", "nowhere"), "nowhere", 8),
        (("--organ", "spleen", "--iterations", "0"), "'--iterations'", 2),
        ((), "Missing option '--organ'", 2),
    ],
)
def test_errors(invoke, arguments, said, code):
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert said in result.output
    assert not (invoke.project / "runs").exists()


@pytest.mark.slow
def test_two_devices_add_an_organ_through_all_folds(make_project, tmp_path):
    """The second process follows the first from training to training, and ends with it."""
    pytest.importorskip("lightning_fabric")
    project = make_project(2).folder
    words = ["--project", project, "--base", "liver-ct", "--cache", tmp_path / "prepared", "--devices", "2"]
    words += ["--device", "cpu", "--organ", "spleen", "--iterations", "3"]
    child = subprocess.run(
        [sys.executable, "-m", "multiorganseg_training", "add-organ", *map(str, words)],
        env={**module_environment([TRAINING]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=1200,
        check=False,
    )
    assert child.returncode == 0, child.stdout + child.stderr
    run = project / "runs" / "liver-ct-plus-spleen"
    results = sorted(path.relative_to(run).parent.as_posix() for path in run.rglob("result.json"))
    assert results == [".", "folds/1", "folds/2"]
    assert (run / "acceptance.json").is_file()
    assert child.stdout.count("Acceptance check") == 1, "one process alone speaks"

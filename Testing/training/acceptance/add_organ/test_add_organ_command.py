from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from multiorganseg.projects.runs import request_pause
from multiorganseg_training.acceptance import add_organ as add_organ_module
from multiorganseg_training.cli.app import app


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

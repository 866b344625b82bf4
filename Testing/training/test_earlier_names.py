"""Files, recipes and commands of the version before this one, with the names that it used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from multiorganseg.bundles.metadata_json import metadata_from_json
from multiorganseg.earlier import COMMANDS
from multiorganseg.events import EventKind, EventTail, read_events
from multiorganseg.folders import resources_dir
from multiorganseg.projects.acceptance import AcceptanceReport, load_acceptance, save_acceptance
from multiorganseg.projects.runs import run_states
from multiorganseg_training.acceptance.plan import PLAN_FILE, Plan, load_plan, save_plan
from multiorganseg_training.cli.app import app
from multiorganseg_training.recipe.file import recipe_from_dict, recipe_to_dict

REPORT = AcceptanceReport("b", "1.0.0", "0" * 64, "r", ("x",), "hold-out", 0.01, 0.5, {})
ARGUMENTS = {"claim_weight": 2.0, "sure_weight": 0.25, "similarity": True}
ARGUMENTS_NOW = {"pseudo_label_weight": 2.0, "certain_weight": 0.25, "similarity": True}


def test_a_report_of_an_acceptance_check_until_there_is_a_newer_one(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "r"
    run.mkdir(parents=True)
    (run / "events.jsonl").write_text('{"event": "started"}\n{"event": "finished"}\n', encoding="utf-8")
    save_acceptance(REPORT, run)
    (run / "acceptance.json").rename(run / "gate.json")
    assert load_acceptance(run) == REPORT
    assert run_states(tmp_path)[0]["accepted"] is True
    (run / "acceptance.json").write_text('{"passed": false}', encoding="utf-8")
    assert run_states(tmp_path)[0]["accepted"] is False


def test_events(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text('{"event": "gate", "organs": {}}\n{"event": ["gate"]}\n', encoding="utf-8")
    said = {"event": EventKind.ACCEPTANCE.value, "organs": {}}
    assert list(read_events(log)) == EventTail(log).poll() == [said]


def test_metadata_of_a_bundle() -> None:
    path = resources_dir() / "Models" / "abdomen-ct" / "configs" / "metadata.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["training"]["gate"] = {"passed": True}
    training = metadata_from_json(data).training
    assert training["acceptance"] == {"passed": True}
    assert "gate" not in training


def test_recipes_and_plans(phantom_recipe, tmp_path: Path) -> None:
    tables = recipe_to_dict(phantom_recipe()) | {"method": "extend", "method_arguments": ARGUMENTS}
    recipe = recipe_from_dict(tables)
    assert recipe.method == "add_organ"
    assert recipe.method_arguments == ARGUMENTS_NOW
    tables["network"]["arguments"] = {"branches": [1]}
    plan = Plan(recipe_from_dict(tables), (), "0" * 64)
    save_plan(plan, tmp_path)
    content = json.loads((tmp_path / PLAN_FILE).read_text(encoding="utf-8"))
    content["recipe"] |= {"method": "extend", "method_arguments": ARGUMENTS}
    (tmp_path / PLAN_FILE).write_text(json.dumps(content), encoding="utf-8")
    assert load_plan(tmp_path) == plan


@pytest.mark.parametrize(("earlier", "now"), COMMANDS.items())
def test_commands(earlier: str, now: str, tmp_path: Path) -> None:
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})
    assert f" {earlier} " not in runner.invoke(app, ["--help"]).stdout
    options = {"add-organ": ["--organ", "x", "-p", str(tmp_path)], "acceptance": ["x", "-p", str(tmp_path)]}
    said = runner.invoke(app, [earlier, *options[now]])
    assert f"The command '{earlier}' is called '{now}' now" in said.output
    direct = runner.invoke(app, [now, *options[now]])
    assert direct.exit_code == said.exit_code != 0
    assert "is called" not in direct.output
    assert (
        runner.invoke(app, [earlier, "--help"]).stdout.split()[3:]
        == (runner.invoke(app, [now, "--help"]).stdout.split()[3:])
    )

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer

from multiorganseg.errors import TrainingError
from multiorganseg_training.recipe.file import load_recipe, recipe_to_dict
from multiorganseg_training.run.build import recipe_method, recipe_network

ROOT = Path(__file__).resolve().parents[3]
LIST = """
recipes = "{recipes}"
evaluate = ["--weights", "last"]
[[pass]]
seeds = [0]
rows = ["start", "second"]
[[pass]]
seeds = [0, 1]
rows = ["start"]
"""


@pytest.fixture
def sweep(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "research"))
    return importlib.import_module("sweep")


@pytest.fixture
def listed(tmp_path, save_recipe, phantom_recipe) -> Path:
    save_recipe(tmp_path / "start.toml", phantom_recipe(name="start"))
    second = phantom_recipe(
        name="second",
        method="ltuda",
        method_arguments={"prototypes": True},
        network={"activation": "sigmoid", "initial": "runs/start"},
    )
    save_recipe(tmp_path / "second.toml", second)
    (tmp_path / "list.toml").write_text(LIST.format(recipes=tmp_path), encoding="utf-8")
    return tmp_path / "list.toml"


def test_jobs_come_in_the_order_of_the_passes_and_once(sweep, listed, tmp_path):
    jobs = sweep.jobs(listed, tmp_path / "runs")
    assert [job.run.name for job in jobs] == ["start-0", "second-0", "start-1"]
    assert [job.initial for job in jobs] == ["", str(tmp_path / "runs" / "start-0"), ""]
    assert [job.classifiers for job in jobs] == [["linear"], ["linear", "unlabelled"], ["linear"]]


def test_a_row_may_change_a_recipe(sweep, listed, tmp_path, monkeypatch):
    text = listed.read_text(encoding="utf-8").replace('rows = ["start"]', 'rows = ["short"]')
    text += '[variants.short]\nof = "start"\nset = ["optimisation.iterations = 7"]\n'
    listed.write_text(text, encoding="utf-8")
    job = sweep.jobs(listed, tmp_path)[-1]
    assert (job.run.name, job.recipe.optimisation.iterations, job.seed) == ("start-short-1", 7, 1)
    commands = []

    def run(command, **options):
        commands.append(command)
        return type("Done", (), {"returncode": 1})

    monkeypatch.setattr(sweep.subprocess, "run", run)
    sweep.work(job, tmp_path, tmp_path, 1)
    said = [value for option, value in zip(commands[0], commands[0][1:], strict=False) if option == "--set"]
    assert load_recipe(job.recipe_file, said) == job.recipe


def test_a_list_may_change_all_recipes_and_their_names(sweep, listed, tmp_path):
    text = listed.read_text(encoding="utf-8")
    listed.write_text('name = "brief"\nset = ["optimisation.iterations = 7"]\n' + text, encoding="utf-8")
    first, second, _ = sweep.jobs(listed, tmp_path)
    assert [first.run.name, second.run.name] == ["start-brief-0", "second-brief-0"]
    assert second.initial == str(first.run)
    assert {job.recipe.optimisation.iterations for job in (first, second)} == {7}


def test_what_is_finished_is_left_as_it_is(sweep, listed, tmp_path, monkeypatch):
    first, second, _ = sweep.jobs(listed, tmp_path / "runs")
    commands = []

    def run(command, **options):
        commands.append(command[2:])
        assert options["env"]["OMP_NUM_THREADS"] == "1"
        if command[3] == "fit":
            _finish(second)
        return type("Done", (), {"returncode": int(command[3] == "evaluate")})

    monkeypatch.setattr(sweep.subprocess, "run", run)
    (first.run / "evaluation-linear").mkdir(parents=True)
    _finish(first)
    (first.run / "evaluation-linear" / "evaluation.json").write_text('{"iteration": 120}', encoding="utf-8")
    assert first.recipe.optimisation.iterations == 120
    assert first.obstacle() == ""
    assert sweep.work(first, tmp_path, tmp_path, 1)
    assert commands == []
    assert not sweep.work(second, tmp_path, tmp_path, 1), "what failed is reported"
    assert [command[1] for command in commands] == ["fit", "evaluate"]
    fit, evaluate = (" ".join(command) for command in commands)
    assert f"--seed 0 --initial {first.run}" in fit
    assert evaluate.endswith("--weights last")


def _finish(job, **changed) -> None:
    recipe = recipe_to_dict(job.recipe) | {"seed": job.seed} | changed
    job.run.mkdir(parents=True, exist_ok=True)
    (job.run / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    (job.run / "result.json").write_text("{}", encoding="utf-8")


def test_a_paused_run_is_neither_measured_nor_gone_on_from(sweep, listed, tmp_path, monkeypatch):
    first, second, _ = sweep.jobs(listed, tmp_path / "runs")
    first.runs.mkdir()
    commands = []

    def run(command, **options):
        commands.append(command[3])
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(sweep.subprocess, "run", run)
    assert not sweep.work(first, tmp_path, tmp_path, 1), "it ended well, without a result"
    assert commands == ["fit"]
    assert second.obstacle() == "it goes on from start-0, which is not finished"
    _finish(first)
    assert second.obstacle() == ""
    evaluation = first.evaluation("linear") / "evaluation.json"
    evaluation.parent.mkdir()
    evaluation.write_text('{"iteration": 2}', encoding="utf-8")
    assert sweep.work(first, tmp_path, tmp_path, 1), "what was measured before the end is measured anew"
    assert commands == ["fit", "evaluate"]


def test_a_finished_run_of_another_recipe_is_told_and_in_no_table(sweep, listed, tmp_path):
    tables = importlib.import_module("tables")
    first, *_ = sweep.jobs(listed, tmp_path / "runs")
    organ = {"spleen": {metric: {"mean": 0.5} for metric in ("dice", "hd95_mm")}}
    text = json.dumps({"iteration": 120, "full": {"organs": organ}})
    for changed, said in (
        ({}, ""),
        ({"method": "partial"}, "another recipe (method)"),
        ({"name": "before"}, ""),
    ):
        _finish(first, **changed)
        assert said in first.obstacle()
        assert bool(said) == bool(first.obstacle())
        first.evaluation("linear").mkdir(exist_ok=True)
        (first.evaluation("linear") / "evaluation.json").write_text(text, encoding="utf-8")
        tables.write_tables(tmp_path, [first], tables.Labelled({"spleen": 1}, 1))
        rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["rows"]
        assert list(rows) == ([] if said else ["start"])


def test_a_recipe_that_does_not_fit_is_refused_before_anything_is_trained(
    sweep, listed, save_recipe, phantom_recipe, phantom_data, tmp_path, monkeypatch, capsys
):
    second = phantom_recipe(name="second", data={"training": ["typo_*"]})
    save_recipe(tmp_path / "second.toml", second)
    monkeypatch.setattr(sweep, "work", lambda *given: pytest.fail("it trained"))
    with pytest.raises(typer.Exit):
        sweep.main(listed, phantom_data, tmp_path / "runs", None, 1)
    assert "do not fit" in capsys.readouterr().err


def test_what_goes_on_from_a_run_that_is_left_out_is_left_out_too(
    sweep, listed, phantom_data, tmp_path, monkeypatch, capsys
):
    for job in sweep.jobs(listed, tmp_path / "runs")[::2]:
        _finish(job, method="partial")
    monkeypatch.setattr(sweep, "work", lambda *given: pytest.fail("it trained"))
    with pytest.raises(typer.Exit):
        sweep.main(listed, phantom_data, tmp_path / "runs", None, 1)
    said = capsys.readouterr().err
    assert "start-0 is left out: it was trained by another recipe (method)" in said
    assert "second-0 is left out: it goes on from start-0, which is left out" in said


def test_other_options_of_the_measuring_measure_anew(sweep, listed, tmp_path, monkeypatch):
    first, *_ = sweep.jobs(listed, tmp_path / "runs")
    _finish(first)
    commands = []

    def run(command, **options):
        commands.append(command[3])
        first.evaluation("linear").mkdir(exist_ok=True)
        text = json.dumps({"iteration": 120})
        (first.evaluation("linear") / "evaluation.json").write_text(text, encoding="utf-8")
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(sweep.subprocess, "run", run)
    for options, times in ((("--weights", "last"), 1), (("--weights", "last"), 1), ((), 2)):
        assert sweep.work(replace(first, options=options), tmp_path, tmp_path, 1)
        assert commands == ["evaluate"] * times


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("recipes", "recipe", "unknown field 'recipe'"),
        ("seeds = [0]\n", "seeds = 0\n", "must be a list"),
        ('rows = ["start"]', 'rows = "start"', "must be a list"),
        ("[[pass]]", "[[pas]]", "'pas'"),
        ("evaluate = [", "evaluate = ", "Cannot read"),
        ("[[pass]]", "[variants.a]\nof = 'start'\n[[pass]]", "has the row a"),
        ('rows = ["start"]', 'rows = ["twin"]', "Two rows"),
        ('rows = ["start"]', 'rows = ["nowhere"]', "nowhere.toml"),
    ],
)
def test_a_list_with_an_error_says_what_is_wrong(
    sweep, listed, save_recipe, phantom_recipe, tmp_path, before, after, said
):
    twin = phantom_recipe(name="start", optimisation={"iterations": 7})
    save_recipe(tmp_path / "twin.toml", twin)
    text = listed.read_text(encoding="utf-8")
    assert before in text
    listed.write_text(text.replace(before, after, 1 if "row" in said else -1), encoding="utf-8")
    with pytest.raises(TrainingError) as caught:
        sweep.jobs(listed, tmp_path / "runs")
    assert said in f"{caught.value} {caught.value.cause}"


def test_medians_over_seeds_by_how_often_an_organ_is_labelled(sweep, listed, tmp_path):
    tables = importlib.import_module("tables")
    jobs = [job for job in sweep.jobs(listed, tmp_path) if job.recipe.name == "start"]
    third = sweep.Job(jobs[0].recipe_file, jobs[0].recipe, 2, tmp_path)
    labelled = tables.Labelled({"spleen": 9, "liver": 3, "aorta": 1}, 10)
    for job, spleen, liver in zip([*jobs, third], (0.9, 0.8, 0.5), (0.1, 0.3, None), strict=True):
        organs = {
            key: {metric: {"mean": value} for metric in ("dice", "hd95_mm")}
            for key, value in (("spleen", spleen), ("liver", liver))
        }
        folder = job.evaluation("linear")
        folder.mkdir(parents=True)
        (folder / "evaluation.json").write_text(
            json.dumps({"iteration": 120, "full": {"organs": organs}}), encoding="utf-8"
        )
    tables.write_tables(tmp_path, [*jobs, third], labelled)
    row = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["rows"]["start"]
    assert list(row["seeds"]) == ["0", "1", "2"]
    dice = row["median"]["dice"]
    assert dice["spleen"] == dice["often"]
    assert dice["spleen"] == {"median": 0.8, "lowest": 0.5, "highest": 0.9, "seeds": 3}
    assert dice["liver"] == dice["seldom"]
    assert dice["liver"] == pytest.approx({"median": 0.2, "lowest": 0.1, "highest": 0.3, "seeds": 2})
    assert dice["mean"] == pytest.approx({"median": 0.525, "lowest": 0.5, "highest": 0.55, "seeds": 2}), (
        "the mean of the organs that are left would be that of others"
    )
    assert dice["aorta"] is None, "of another row"
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "spleen (9) | liver (3) | aorta (1) | often | seldom | mean" in text
    assert "| start | 3 | 0.800 (0.500 – 0.900) | 0.200 (0.100 – 0.300), 2 of 3 | – |" in text


@pytest.mark.parametrize("path", sorted((ROOT / "research").glob("*-sweep.toml")), ids=lambda path: path.stem)
def test_the_lists_of_the_project_name_recipes_and_start_from_rows_that_come_before(sweep, path, tmp_path):
    seen: set[Path] = set()
    for job in sweep.jobs(path, tmp_path):
        assert not job.initial or Path(job.initial) in seen
        assert load_recipe(job.recipe_file, job.changes) == job.recipe
        anew = replace(job.recipe, network=replace(job.recipe.network, initial=""))
        with torch.device("meta"):
            recipe_method(anew, recipe_network(anew))
        seen.add(job.run)
    assert len(seen) > 1

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from multiorganseg_training.recipe.file import recipe_to_dict
from research.cli import app
from research.evaluation.comparison import Spread, compare
from research.evaluation.comparison_report import comparison_markdown
from research.evaluation.curves import median_curve, smoothed
from research.evaluation.finished import read_run, read_runs


def _dice(liver: float | None, spleen: float | None) -> dict[str, float | None]:
    known = [value for value in (liver, spleen) if value is not None]
    return {"spleen": spleen, "liver": liver, "mean": sum(known) / len(known) if known else None}


def _compare(*arguments: object) -> Result:
    runner = CliRunner(env={"COLUMNS": "160", "TERM": "dumb", "NO_COLOR": "1"})
    return runner.invoke(app, ["compare", *map(str, arguments)])


@pytest.fixture
def make_run(phantom_recipe, tmp_path):
    """Write a run's folder: Dice at iterations 100 and 200 of the averaged, at 200 of the last network."""

    def make(
        place: str,
        early: dict[str, float | None],
        averaged: dict[str, float | None],
        last: dict[str, float | None],
        /,
        finished: bool = True,
        **sections: Any,
    ) -> Path:
        folder = tmp_path / place
        folder.mkdir()
        recipe = recipe_to_dict(phantom_recipe(**sections))
        (folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
        events = [{"event": "started", "recipe": recipe["name"]}]
        events += [
            {"event": "progress", "iteration": number, "loss": 10 / number} for number in range(10, 201, 10)
        ]
        points = [("averaged", 100, early), ("last", 200, last), ("averaged", 200, averaged)]
        events += [
            {"event": "metric", "time": 1.0, "name": f"dice of {which} network", "iteration": number, **dice}
            for which, number, dice in points
        ]
        lines = [json.dumps(event) for event in events]
        (folder / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if finished:
            scores = json.dumps({"averaged": averaged, "last": last})
            (folder / "result.json").write_text(scores, encoding="utf-8")
        return folder

    return make


@pytest.fixture
def runs(make_run) -> list[Path]:
    """Three seeds of one recipe, out of order, and one run of another."""
    return [
        make_run("a2", _dice(0.9, 0.7), _dice(0.8, 0.4), _dice(0.7, 0.1), seed=2),
        make_run("a0", _dice(0.3, 0.1), _dice(0.6, 0.6), _dice(0.5, 0.3), seed=0),
        make_run("b1", _dice(0.1, None), _dice(0.2, None), _dice(0.3, None), seed=1, name="other"),
        make_run("a1", _dice(0.2, 0.2), _dice(0.7, 0.3), _dice(0.9, 0.5), seed=1),
    ]


def _evaluation(liver: float, empty: int, classifier: str = "linear") -> dict[str, Any]:
    def mean(value: float | None) -> dict[str, Any]:
        return {"mean": value, "count": 1, "undefined": 0}

    return {
        "iteration": 120,
        "weights": "averaged",
        "classifier": classifier,
        "split": "validation",
        "largest_components": True,
        "ltuda": {"mean": {"dice": mean(liver), "hd_slice2d_ltuda": mean(12.5)}},
        "full": {
            "organs": {"liver": {"dice": mean(liver)}, "spleen": {"dice": mean(0.0)}},
            "mean": {"dice": mean(liver / 2), "hd95_mm": mean(None), "nsd": mean(0.25)},
            "empty_predictions": {"liver": 0, "spleen": empty},
        },
    }


def _write_evaluation(folder: Path, name: str, content: dict[str, Any]) -> None:
    (folder / name).mkdir()
    (folder / name / "evaluation.json").write_text(json.dumps(content), encoding="utf-8")


def test_medians_and_ranges_by_hand(runs):
    comparison = compare(map(read_run, runs))
    assert comparison.organs == ("spleen", "liver")
    first, second = comparison.recipes
    assert (first.label, [run.seed for run in first.runs]) == ("phantom-ct", [0, 1, 2])
    assert (second.label, [run.seed for run in second.runs]) == ("other", [1])
    assert first.dice["last"]["liver"] == Spread(0.7, 0.5, 0.9, 3)
    assert first.dice["last"]["spleen"] == Spread(0.3, 0.1, 0.5, 3)
    assert first.dice["averaged"]["spleen"] == Spread(0.4, 0.3, 0.6, 3)
    assert second.dice["averaged"]["liver"] == Spread(0.2, 0.2, 0.2, 1)
    assert second.dice["averaged"]["spleen"] is None


def test_best_on_the_fold_is_one_network_of_each_run(runs):
    first, second = compare(map(read_run, runs)).recipes
    best = first.dice["best on the fold"]
    assert best["liver"] == Spread(0.9, 0.6, 0.9, 3)
    assert best["spleen"] == Spread(0.6, 0.5, 0.7, 3)
    mean = best["mean"]
    assert mean is not None
    assert mean.median == pytest.approx(0.7)
    assert second.dice["best on the fold"]["liver"] == Spread(0.3, 0.3, 0.3, 1)


def test_what_evaluate_wrote_is_a_line_of_its_own(runs):
    _write_evaluation(runs[0], "evaluation", _evaluation(0.5, 2))
    _write_evaluation(runs[1], "evaluation", _evaluation(0.7, 0))
    _write_evaluation(runs[1], "prototypes", _evaluation(0.9, 1, "unlabelled"))
    _write_evaluation(runs[1], "earlier", {**_evaluation(0.1, 0, "labelled"), "iteration": 60})
    first, second = compare(map(read_run, runs)).recipes
    name = "evaluated, averaged, linear, largest components"
    assert first.dice[name]["liver"] == Spread(0.6, 0.5, 0.7, 2)
    assert first.dice["evaluated, averaged, unlabelled, largest components"]["liver"] == Spread(
        0.9, 0.9, 0.9, 1
    )
    assert not [each for each in first.dice if "labelled," in each and "unlabelled" not in each], "of a pause"
    assert first.metrics[name]["full.empty_predictions"] == Spread(1.0, 0.0, 2.0, 2)
    assert first.metrics[name]["full.hd95_mm"] is None
    assert second.metrics == {}
    text = comparison_markdown(compare(map(read_run, runs)))
    assert f"| phantom-ct | {name} | 12.50 (12.50–12.50) | – | 0.250 (0.250–0.250) | – |" in text
    assert "1 (0–2)" in text


def test_recipes_of_one_name_that_differ_are_told_apart(make_run):
    same = (_dice(0.5, 0.5),) * 3
    folders = [
        make_run("a", *same, network={"initial": "one"}, seed=0),
        make_run("b", *same, network={"initial": "two"}, seed=1, description="Another text"),
        make_run("c", *same, optimisation={"iterations": 7}, seed=0),
        make_run("d", *same, seed=1, name="other"),
    ]
    comparison = compare(map(read_run, folders))
    assert [(each.label, len(each.runs)) for each in comparison.recipes] == [
        ("phantom-ct (a)", 2),
        ("phantom-ct (b)", 1),
        ("other", 1),
    ]
    first = {"network.initial": "another run or bundle", "optimisation.iterations": 120}
    assert [each.differing for each in comparison.recipes] == [
        first,
        {"network.initial": "", "optimisation.iterations": 7},
        {},
    ]
    line = '- phantom-ct (b): network.initial = "", optimisation.iterations = 7'
    assert line in comparison_markdown(comparison)


def test_how_a_run_logs_and_what_older_versions_left_out_parts_no_runs(make_run):
    same = (_dice(0.5, 0.5),) * 3
    folders = [
        make_run("a", *same, seed=0),
        make_run("b", *same, seed=1, reporting={"log_every": 7, "checkpoint_every": 3}),
        make_run("c", *same, seed=2),
    ]
    path = folders[2] / "recipe.json"
    recipe = json.loads(path.read_text(encoding="utf-8"))
    del recipe["optimisation"]["nesterov"]
    path.write_text(json.dumps(recipe), encoding="utf-8")
    (group,) = compare(map(read_run, folders)).recipes
    assert (group.label, len(group.runs)) == ("phantom-ct", 3)


def test_a_resumed_run_counts_the_later_of_two_lines(runs):
    path = runs[0] / "events.jsonl"
    again = [
        {"event": "progress", "iteration": 150, "loss": 5.0},
        {"event": "metric", "name": "dice of averaged network", "iteration": 100, **_dice(0.1, 0.1)},
    ]
    cut_off = '{"event": "progress", "iter\n'
    text = path.read_text(encoding="utf-8") + cut_off + "".join(json.dumps(event) + "\n" for event in again)
    path.write_text(text, encoding="utf-8")
    run = read_run(runs[0])
    assert run.losses[150] == 5.0
    assert list(run.losses) == list(range(10, 201, 10))
    assert run.series["averaged"][100]["liver"] == 0.1
    assert run.best_on_fold["liver"] == 0.8


def test_the_command_writes_and_shows(runs, tmp_path):
    folder = tmp_path / "Vergleich ü"
    result = _compare(*runs, "-o", folder)
    assert result.exit_code == 0, result.output
    for text in (
        "phantom-ct",
        "seeds 0, 1, 2",
        "seed 1",
        "best on the fold (optimistic)",
        "(0.500–0.900)",
        f"Written: {folder}",
    ):
        assert text in result.stdout
    content = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    assert str(folder.parent) not in json.dumps(content)
    assert content["organs"] == ["spleen", "liver"]
    recipe = content["recipes"][0]
    assert recipe["dice"]["last"]["liver"] == {"median": 0.7, "low": 0.5, "high": 0.9, "count": 3}
    assert content["recipes"][1]["dice"]["last"]["spleen"] is None
    markdown = (folder / "comparison.md").read_text(encoding="utf-8")
    assert "| phantom-ct | 0, 1, 2 | last | 0.300 (0.100–0.500) | 0.700 (0.500–0.900) |" in markdown
    assert "| other | 1 | last | – | 0.300 | 0.300 |" in markdown
    assert "optimistic" in markdown
    assert "(curves.png)" in markdown
    picture = (folder / "curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", picture[16:24])
    assert width >= 1500
    assert height >= 600


def test_unfinished_runs_are_named_and_left_out(runs, make_run, tmp_path):
    half = make_run("half", *(_dice(0.1, 0.1),) * 3, finished=False)
    finished, unfinished = read_runs([*runs, half, runs[0]])
    assert [run.folder for run in finished] == runs
    assert unfinished == [half]
    result = _compare(*runs, half, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert f"Not finished, left out: {half}." in result.stderr
    result = _compare(half, "-o", tmp_path / "none")
    assert result.exit_code == 8
    assert "None of the runs is finished" in result.stderr


def test_folders_that_are_no_runs(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    result = _compare(runs[0], tmp_path / "empty", "-o", tmp_path / "out")
    assert result.exit_code == 8
    assert "holds no run" in result.stderr
    (runs[1] / "result.json").write_text("{", encoding="utf-8")
    result = _compare(runs[1], "-o", tmp_path / "out")
    assert result.exit_code == 8
    assert "cannot be read" in result.stderr


def test_a_real_run(phantom_run, tmp_path):
    result = _compare(phantom_run.place.run, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    dice = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))["recipes"][0]["dice"]
    assert dice["averaged"]["liver"]["median"] == phantom_run.scores["averaged"]["liver"]
    assert dice["best on the fold"]["mean"]["median"] >= phantom_run.scores["averaged"]["mean"]


def test_a_run_without_a_fold_has_only_a_loss(make_run, tmp_path):
    folder = make_run("a", {}, {}, {}, data={"validation": []})
    (folder / "result.json").write_text("{}", encoding="utf-8")
    result = _compare(folder, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "–" in result.stdout


def test_the_running_median_by_hand():
    curve = dict(zip(range(10, 60, 10), [1.0, 9.0, 2.0, 3.0, 8.0], strict=True))
    assert smoothed(curve, 0.4) == {10: 5.0, 20: 2.0, 30: 3.0, 40: 3.0, 50: 5.5}
    assert smoothed(curve, 0.1) == curve
    assert smoothed({}) == {}


def test_the_median_of_curves_at_shared_iterations():
    assert median_curve([{1: 1.0, 2: 5.0}, {2: 1.0, 3: 0.0}, {2: 2.0}]) == {2: 2.0}

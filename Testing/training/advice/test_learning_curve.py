from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.acceptance import AcceptanceReport, OrganVerdict, Verdict, save_acceptance
from multiorganseg_training.advice import CurvePoint, cases_needed, collect_points, draw_curve, fit_curve
from multiorganseg_training.cli.app import app
from multiorganseg_training.project import create_project

TRUE = (0.85, 0.6, 0.7)


def points(*cases: int, shift: float = 0.0) -> list[CurvePoint]:
    limit, drop, rate = TRUE
    return [CurvePoint(n, limit - drop * n**-rate + shift * (-1) ** n, f"run-{n}") for n in cases]


def test_a_known_curve_is_found_again():
    learned = fit_curve(points(1, 2, 3, 5, 8, 12, 20))
    assert learned.best == pytest.approx(TRUE, abs=0.02)
    assert learned.noise == 0.02, "points on a curve are no more certain than a Dice over few cases is"
    needed = cases_needed(learned, 0.8)
    true = (TRUE[1] / (TRUE[0] - 0.8)) ** (1 / TRUE[2])
    assert needed.more == pytest.approx(true - 20, abs=4)
    low, high = needed.interval
    assert low <= needed.more
    assert high is None or high >= needed.more


def test_a_small_gain_is_the_default_aim():
    learned = fit_curve(points(1, 3, 5, 10))
    needed = cases_needed(learned)
    assert needed.target == pytest.approx(float(learned.dice(10)) + 0.02)
    assert needed.more > 0
    assert "more annotated case" in needed.sentence()


def test_what_is_reached_needs_no_more():
    needed = cases_needed(fit_curve(points(1, 3, 5, 10)), 0.5)
    assert needed.more == 0
    assert "are enough" in needed.sentence()


def test_a_plateau_below_the_target_is_out_of_reach():
    flat = [CurvePoint(n, 0.6) for n in (2, 5, 10, 20, 40)]
    needed = cases_needed(fit_curve(flat), 0.95)
    assert needed.more is None
    assert needed.unreachable > 0.5
    assert "out of reach" in needed.sentence()


def test_three_points_are_honest_about_the_far_end():
    needed = cases_needed(fit_curve(points(1, 2, 3)), 0.8)
    low, high = needed.interval
    assert high is None or high - low > 10


@pytest.mark.parametrize("cases", [(), (5,), (5, 5, 5), (3, 5, 5)])
def test_too_few_points_are_reported(cases):
    with pytest.raises(TrainingError, match="too few points") as caught:
        fit_curve(points(*cases))
    assert "3 different numbers" in caught.value.cause


@pytest.mark.parametrize("target", [0.0, 1.0, -1.0, 80.0])
def test_a_target_out_of_range(target):
    with pytest.raises(TrainingError, match="no target"):
        cases_needed(fit_curve(points(1, 3, 5)), target)


@settings(max_examples=10)
@given(st.lists(st.tuples(st.integers(1, 60), st.floats(0, 1)), min_size=3, max_size=8))
def test_whatever_the_points_the_curve_rises_within_its_bounds(pairs):
    given_points = [CurvePoint(n, value) for n, value in pairs]
    if len({n for n, _ in pairs}) < 3:
        return
    learned = fit_curve(given_points)
    grid = np.arange(1, 100)
    low, high = learned.band(grid)
    assert (np.diff(learned.dice(grid)) >= -1e-9).all()
    assert (low <= high).all()
    assert learned.dice(grid).max() <= 1
    needed = cases_needed(learned, 0.7)
    assert needed.more is None or needed.more >= 0
    assert not math.isnan(needed.unreachable)


def verdict(dice: float | None) -> OrganVerdict:
    return OrganVerdict(
        role="new", reference="annotated", cases=3, dice_old=None, dice_new=dice, nsd_old=None, nsd_new=dice,
        volume_ml_old=None, volume_ml_new=30.0, difference=None, confidence_interval=None,
        verdict=Verdict.PASS, why="",
    )  # fmt: skip


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "Projekt 器官"
    create_project(folder, "p", LabelTable.numbered(["liver", "gallbladder"]))
    acceptance = AcceptanceReport("b", "1.0.0", "0" * 64, "r", ("x",), "hold-out", 0.01, 0.5, {})
    for point in points(1, 3, 5, 10):
        organs = {"gallbladder": verdict(point.dice), "liver": replace(verdict(0.9), role="old")}
        (folder / "runs" / point.run).mkdir(parents=True)
        save_acceptance(
            replace(acceptance, organs=organs, training_cases={"gallbladder": point.cases}),
            folder / "runs" / point.run,
        )
    (folder / "runs" / "unmeasured").mkdir()
    save_acceptance(
        replace(acceptance, organs={"gallbladder": verdict(None)}, training_cases={"gallbladder": 7}),
        folder / "runs" / "unmeasured",
    )
    (folder / "runs" / "running").mkdir()
    return folder


def test_points_come_from_the_acceptance_checks_of_the_runs(project):
    found = collect_points(project)
    assert set(found) == {"gallbladder"}
    assert [point.cases for point in found["gallbladder"]] == [1, 3, 5, 10]
    assert found["gallbladder"][0].run == "run-1"


def test_the_command_tells_and_draws(project):
    result = CliRunner().invoke(app, ["project", "learning-curve", str(project), "--target", "0.8"])
    assert result.exit_code == 0, result.output
    assert "a Dice of 0.80" in " ".join(result.output.split())
    assert (project / "learning-curve-gallbladder.png").read_bytes().startswith(b"\x89PNG")
    none = CliRunner().invoke(app, ["project", "learning-curve", str(project), "--organ", "liver"])
    assert none.exit_code == TrainingError.exit_code
    wrong = CliRunner().invoke(app, ["project", "learning-curve", str(project), "--organ", "spleen"])
    assert wrong.exit_code == TrainingError.exit_code


def test_the_picture_of_an_aim_out_of_reach(tmp_path):
    learned = fit_curve([CurvePoint(n, 0.6) for n in (2, 5, 10)])
    draw_curve(learned, cases_needed(learned, 0.95), "Gallbladder", tmp_path / "Kurve" / "a.png")
    assert (tmp_path / "Kurve" / "a.png").stat().st_size > 10_000

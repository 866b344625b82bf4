from __future__ import annotations

import tempfile

import pytest
import torch

from multiorganseg.progress import CancelToken, Progress
from multiorganseg_training.acceptance import budget as pace
from multiorganseg_training.acceptance.budget import curve_points, iterations_in, seconds_per_iteration


@pytest.mark.parametrize(
    ("seconds", "each", "trainings", "iterations"),
    [(600, 0.5, 1, 1140), (600, 0.5, 4, 285), (600, 100, 1, 20), (28800, 0.01, 1, 20_000)],
)
def test_iterations_in_a_time(seconds, each, trainings, iterations):
    assert iterations_in(seconds, each, trainings) == iterations


def test_validations_take_a_tenth_of_the_time_at_most():
    window, shapes = (16, 32, 32), [(16, 32, 32), (16, 32, 32)]
    assert curve_points(1000, 8.0, window, shapes) == 5
    assert curve_points(80, 8.0, window, shapes) == 4, "two windows take two seconds"
    assert curve_points(19, 8.0, window, shapes) == 0
    assert curve_points(1000, 8.0, window, []) == 0


def test_the_median_of_the_later_iterations(phantom_recipe, prepared, monkeypatch):
    moments = iter([0.0, 50.0, 80.0, 81.0, 83.0, 90.0, 92.0])
    monkeypatch.setattr(pace, "train", lambda *a: [a[5](f"training, loss {i}", i / 6) for i in range(6)])
    monkeypatch.setattr(pace.time, "perf_counter", lambda: next(moments))
    recipe = phantom_recipe()
    assert seconds_per_iteration(recipe, prepared, torch.device("cpu"), Progress()) == 2.0


def test_it_measures_and_leaves_nothing(phantom_recipe, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reported: list[str] = []
    progress = Progress(lambda stage, fraction: reported.append(stage), CancelToken())
    recipe = phantom_recipe(optimisation={"head_alone": 0.9})
    assert seconds_per_iteration(recipe, prepared, torch.device("cpu"), progress) > 0
    assert reported == ["measuring the pace"] * 6
    assert not list(tmp_path.glob(".*"))

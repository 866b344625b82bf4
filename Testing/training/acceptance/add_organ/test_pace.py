from __future__ import annotations

import tempfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from multiorganseg.progress import CancelToken, Progress
from multiorganseg_training.acceptance import budget
from multiorganseg_training.acceptance.budget import Pace, curve_points, estimate, measure_pace, most_batches
from multiorganseg_training.acceptance.check import Split
from multiorganseg_training.acceptance.plan import AddOrganOptions, add_organ_recipe


@pytest.mark.parametrize(
    ("pace", "seconds", "room", "expected"),
    [
        (Pace(2.0, 1.0), 1000, 10_000, (888, 111)),
        (Pace(2.0, 1.0), 1000, 100, (850, 100)),
        (Pace(2.0, 1.0), 1000, 15, (500, 0)),
        (Pace(2.0, 2.0), 1000, 10_000, (500, 0)),
        (Pace(100.0, 50.0), 600, 10_000, (20, 0)),
        (Pace(0.01, 0.005), 28800, 0, (20_000, 0)),
    ],
    ids=["eight passes", "a full disk", "too full a disk", "nothing to keep", "too slow", "endless"],
)
def test_iterations_in_a_time(pace, seconds, room, expected):
    assert pace.iterations(seconds, room) == expected
    iterations, batches = expected
    if 20 < iterations < 20_000:
        assert seconds - 2 <= pace.seconds(iterations, batches) <= seconds


def test_an_estimate_counts_the_folds_and_what_is_kept():
    kept = estimate(Pace(2.0, 1.0), 3, 10_000)
    assert kept.usable == pytest.approx(3 * (19 * 2 + 131 * 1) / 0.95)
    assert kept.good == pytest.approx(3 * (125 * 2 + 875 * 1) / 0.95)
    assert estimate(Pace(2.0, 1.0), 1, 0).good == pytest.approx(2000 / 0.95)
    assert kept.text == "About 9 minutes of training to a first usable result, 59 to a good one."


def test_the_disk_has_room_for_so_many_batches(base, tmp_path, monkeypatch):
    recipe = add_organ_recipe(base, Split((), (), "none"), AddOrganOptions(str(base.folder), ("spleen",)))
    free = SimpleNamespace(free=2**40)
    monkeypatch.setattr(budget, "disk_usage", lambda path: free)
    most = most_batches(recipe, tmp_path)
    voxels = 4 * 16 * 40 * 48
    assert 10 < budget.MOST_KEPT / most / voxels < 100, "bytes a voxel of two patches, mixed and not"
    free.free = 2 * budget.MOST_KEPT
    assert most_batches(recipe, tmp_path) == pytest.approx(most / 2, abs=1)
    assert most_batches(replace(recipe, method="partial"), tmp_path) == 0


def test_validations_take_a_tenth_of_the_time_at_most():
    window, shapes = (16, 32, 32), [(16, 32, 32), (16, 32, 32)]
    assert curve_points(1000, Pace(8.0, 4.0), window, shapes) == 5
    assert curve_points(80, Pace(8.0, 4.0), window, shapes) == 4, "two windows take two seconds"
    assert curve_points(19, Pace(8.0, 4.0), window, shapes) == 0
    assert curve_points(1000, Pace(8.0, 4.0), window, []) == 0


def test_the_medians_of_new_batches_and_of_batches_seen_again(phantom_recipe, prepared, monkeypatch):
    moments = iter([0.0, 50.0, 58.0, 64.0, 65.0, 67.0, 74.0, 76.0])
    asked = []

    def train(recipe, *others):
        asked.append(recipe.optimisation)
        for number in range(7):
            others[4](f"training, loss {number}", number / 7)

    monkeypatch.setattr(budget, "train", train)
    monkeypatch.setattr(budget.time, "perf_counter", lambda: next(moments))
    pace = measure_pace(phantom_recipe(), prepared, torch.device("cpu"), Progress())
    assert pace == Pace(7.0, 2.0)
    assert (asked[0].iterations, asked[0].fixed_batches) == (7, 3)


def test_it_measures_and_leaves_nothing(phantom_recipe, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reported: list[str] = []
    progress = Progress(lambda stage, fraction: reported.append(stage), CancelToken())
    recipe = phantom_recipe(optimisation={"head_alone": 0.9})
    assert measure_pace(recipe, prepared, torch.device("cpu"), progress).new > 0
    assert reported == ["measuring the pace"] * 7
    assert not list(tmp_path.glob(".*"))

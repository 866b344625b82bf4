from __future__ import annotations

import importlib
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk

from multiorganseg_training.recipe.file import load_recipe

ROOT = Path(__file__).resolve().parents[3]
RECIPES = ROOT / "research" / "recipes" / "union"


@pytest.fixture
def union(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "research"))
    return importlib.import_module("union")


def _scan() -> tuple[sitk.Image, sitk.Image]:
    looks, values = np.full((8, 20, 24), 40, dtype=np.int16), np.zeros((8, 20, 24), dtype=np.uint8)
    values[2:6, 5:15, 6:18] = 6
    looks[values == 6] = 110
    image, labels = sitk.GetImageFromArray(looks), sitk.GetImageFromArray(values)
    for each in (image, labels):
        each.SetSpacing((1.5, 1.5, 3.0))
    return image, labels


def test_each_site_gets_two_or_three_cases_and_the_fold_none(union):
    names = [f"btcv_{number:02d}" for number in range(24)]
    sites = union.dealt(names)
    assert {name for name, site in sites.items() if site is None} == set(union.FOLD)
    counts = Counter(site.organs for site in sites.values() if site is not None)
    assert len(counts) == len(union.SITES)
    assert set(counts.values()) <= {2, 3}
    assert sorted(organ for organs in counts for organ in organs) == sorted(union.TABLE.keys)


@pytest.mark.parametrize("number", range(9))
def test_a_site_changes_the_scan_as_it_says(union, number):
    site, (image, labels) = union.SITES[number], _scan()
    made, kept = union.scanned(image, labels, site, np.random.default_rng(0))
    assert made.GetSize() == kept.GetSize()
    assert made.GetSpacing()[2] == pytest.approx(3.0 * site.slices)
    assert (made.GetSize()[0] < 24) is (site.field < 1)
    looks, organ = sitk.GetArrayFromImage(made), sitk.GetArrayFromImage(kept) == 6
    assert organ.any()
    assert (abs(looks[organ].mean() - 110) > 4) == bool(site.phase)
    assert np.std(looks[~organ]) == pytest.approx(site.noise_hu, rel=0.3, abs=5)


def test_dice_by_organ_of_a_collection(union):
    cases = {
        "openkbp_1": {"esophagus": {"dice": 0.2}},
        "openkbp_2": {"esophagus": {"dice": 0.4}, "larynx": {"dice": 1.0}},
        "btcv_1": {"esophagus": {"dice": 0.9}, "spleen": {"dice": None}},
    }
    assert union.by_organ(cases, "openkbp") == pytest.approx({"esophagus": 0.3, "larynx": 1.0})
    assert union.by_organ(cases, "btcv") == {"esophagus": 0.9}


def test_the_table_takes_medians_over_seeds_and_leaves_out_what_a_row_does_not_know(union, tmp_path, capsys):
    def measured(run: str, **organs: float) -> None:
        file = tmp_path / run / "evaluation-linear" / "evaluation.json"
        file.parent.mkdir(parents=True)
        cases = {"btcv_1": {organ: {"dice": dice} for organ, dice in organs.items()}}
        file.write_text(json.dumps({"cases": cases}), encoding="utf-8")

    for seed, liver in enumerate((0.9, 0.5, 0.6)):
        measured(f"union-both-{seed}", liver=liver, spleen=0.2)
    measured("union-neck-0", esophagus=0.1)
    union.table(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| collection | organ | union-both | union-neck |"
    assert "| btcv | liver | 0.600 |  |" in lines
    assert "| btcv | esophagus |  | 0.100 |" in lines
    assert "| btcv | mean of those | 0.400 (0.350 – 0.550) | 0.100 |" in lines


def test_ltuda_on_both_learns_from_the_same_cases_and_organs():
    marginal, ltuda = (load_recipe(RECIPES / f"{name}.toml") for name in ("both", "both-ltuda"))
    assert ltuda.data == marginal.data
    assert ltuda.optimisation == marginal.optimisation
    assert ltuda.method_arguments["warmup"] * 2 == ltuda.optimisation.iterations


def test_rows_cost_alike_and_measure_both_folds():
    neck, abdomen, both = (load_recipe(RECIPES / f"{name}.toml") for name in ("neck", "abdomen", "both"))
    assert neck.data.validation == abdomen.data.validation == both.data.validation
    assert neck.optimisation.iterations + abdomen.optimisation.iterations == both.optimisation.iterations
    assert set(both.data.table.keys) == {*neck.data.table.keys, *abdomen.data.table.keys}
    assert len(both.data.table.keys) == 19
    assert (neck.data.training, abdomen.data.training) == (("openkbp_*",), ("btcv_*",))

from __future__ import annotations

import math

import pytest

from multiorganseg.metrics.scores import BOTH, ONLY_PREDICTION, ONLY_REFERENCE
from research.runs.measure import OrganResult, mean_over_organs, organ_means

NAN = float("nan")


def result(organ, presence=BOTH, dice=0.0, distance=NAN, slices=10, skipped=0):
    return OrganResult(
        organ,
        presence,
        dice,
        dice / 2,
        dice,
        distance,
        distance,
        distance,
        distance,
        distance,
        slices,
        skipped,
    )


CASES = {
    "a": (result("liver", BOTH, 0.9, 4.0), result("spleen", BOTH, 0.5, 8.0, skipped=4)),
    "b": (result("liver", BOTH, 0.7, 2.0), result("spleen", ONLY_REFERENCE, skipped=10)),
    "c": (result("spleen", ONLY_PREDICTION, slices=0),),
}


def test_empty_predictions_are_counted_and_enter_no_distance():
    means = organ_means(CASES)
    liver, spleen = means["liver"], means["spleen"]
    assert liver.metrics["dice"].value == pytest.approx(0.8)
    assert spleen.metrics["dice"].value == pytest.approx(0.5 / 3)
    assert spleen.metrics["jaccard"].value == pytest.approx(0.25 / 3)
    for name in ("hd95_mm", "asd_mm", "hd95_voxels", "asd_voxels", "hd_slice2d_ltuda"):
        assert spleen.metrics[name].value == 8.0
        assert (spleen.metrics[name].count, spleen.metrics[name].undefined) == (1, 2)
    assert (spleen.cases, spleen.empty, spleen.invented) == (3, 1, 1)
    assert (spleen.slices, spleen.slices_skipped) == (20, 14)
    assert (liver.cases, liver.empty, liver.invented) == (2, 0, 0)


def test_every_organ_counts_the_same():
    overall = mean_over_organs(organ_means(CASES))
    assert overall.metrics["dice"].value == pytest.approx((0.8 + 0.5 / 3) / 2)
    assert overall.metrics["hd95_mm"].value == pytest.approx((3.0 + 8.0) / 2)
    assert (overall.cases, overall.empty, overall.invented) == (5, 1, 1)
    assert (overall.slices, overall.slices_skipped) == (40, 14)


def test_an_organ_without_a_distance_is_not_in_the_mean_distance():
    overall = mean_over_organs(
        organ_means({"a": (result("liver", BOTH, 1.0, 2.0), result("spleen", ONLY_REFERENCE))})
    )
    assert overall.metrics["dice"].value == 0.5
    assert overall.metrics["asd_mm"].value == 2.0
    assert (overall.metrics["asd_mm"].count, overall.metrics["asd_mm"].undefined) == (1, 1)


def test_nothing_has_no_mean():
    assert organ_means({"a": ()}) == {}
    assert math.isnan(mean_over_organs({}).metrics["dice"].value)

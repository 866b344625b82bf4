"""Means of an evaluation, in the two ways of reading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from multiorganseg.metrics.scores import ONLY_PREDICTION, ONLY_REFERENCE
from multiorganseg.metrics.summary import MetricMean, mean_of
from multiorganseg_training.evaluation.organ_result import OrganResult

LTUDA_METRICS = ("dice", "hd_slice2d_ltuda")
METRICS = ("dice", "jaccard", "nsd", "hd95_mm", "asd_mm", "hd95_voxels", "asd_voxels")


@dataclass(frozen=True)
class OrganMeans:
    """Means of one organ over cases, or of the organs' means.

    Attributes:
        metrics: By name: all of `METRICS` and `LTUDA_METRICS`, each saying over how many values it was taken.
        cases: How many cases were measured.
        empty: In how many of them the prediction is empty and the reference is not; they count as 0 in Dice,
            Jaccard and NSD, and are in no distance.
        invented: In how many of them the reference is empty and the prediction is not.
        slices: From the first to the last one with the organ, of all cases.
        slices_skipped: How many of them `hd_slice2d_ltuda` left out.
    """

    metrics: Mapping[str, MetricMean]
    cases: int
    empty: int
    invented: int
    slices: int
    slices_skipped: int


def organ_means(cases: Mapping[str, tuple[OrganResult, ...]]) -> dict[str, OrganMeans]:
    """Average each organ over the cases in which it was measured, by organ key."""
    grouped: dict[str, list[OrganResult]] = {}
    for results in cases.values():
        for result in results:
            grouped.setdefault(result.organ, []).append(result)
    return {
        key: OrganMeans(
            {name: mean_of(getattr(result, name) for result in results) for name in _names()},
            len(results),
            sum(result.presence == ONLY_REFERENCE for result in results),
            sum(result.presence == ONLY_PREDICTION for result in results),
            sum(result.slices for result in results),
            sum(result.slices_skipped for result in results),
        )
        for key, results in grouped.items()
    }


def mean_over_organs(organs: Mapping[str, OrganMeans]) -> OrganMeans:
    """Average the organs' means, so that every organ counts the same; counts of cases are added up."""
    return OrganMeans(
        {name: mean_of(means.metrics[name].value for means in organs.values()) for name in _names()},
        sum(means.cases for means in organs.values()),
        sum(means.empty for means in organs.values()),
        sum(means.invented for means in organs.values()),
        sum(means.slices for means in organs.values()),
        sum(means.slices_skipped for means in organs.values()),
    )


def _names() -> tuple[str, ...]:
    return tuple(dict.fromkeys(METRICS + LTUDA_METRICS))

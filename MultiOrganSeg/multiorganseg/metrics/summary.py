"""Means over scores that say how many values they stand on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from multiorganseg.metrics.scores import OrganScore

METRICS = ("dice", "nsd", "hd95_mm", "average_surface_distance_mm", "absolute_volume_error_percent")


@dataclass(frozen=True)
class MetricMean:
    """A mean and what it stands on.

    Attributes:
        value: Mean of the defined values; NaN when there is none.
        count: How many values were averaged.
        undefined: How many were NaN and stayed out.
    """

    value: float
    count: int
    undefined: int


def mean_of(values: Iterable[float]) -> MetricMean:
    """Average the values that are not NaN and count both kinds."""
    everything = list(values)
    defined = [value for value in everything if not math.isnan(value)]
    mean = math.fsum(defined) / len(defined) if defined else float("nan")
    return MetricMean(mean, len(defined), len(everything) - len(defined))


def mean_scores(scores: Iterable[OrganScore]) -> dict[str, MetricMean]:
    """Mean of each of `METRICS` over scores, volume errors by magnitude so that they cannot cancel out.

    An organ that only one side has enters Dice and NSD as 0; HD95 and the average surface distance leave it
    out and count it as undefined. An organ that both sides lack is undefined everywhere.
    """
    listed = list(scores)
    columns = {
        "dice": [score.dice for score in listed],
        "nsd": [score.nsd for score in listed],
        "hd95_mm": [score.hd95_mm for score in listed],
        "average_surface_distance_mm": [score.average_surface_distance_mm for score in listed],
        "absolute_volume_error_percent": [abs(score.volume_error_percent) for score in listed],
    }
    return {name: mean_of(values) for name, values in columns.items()}


def mean_by_organ(scores: Iterable[OrganScore]) -> dict[str, dict[str, MetricMean]]:
    """`mean_scores` for each organ key over cases, in the order in which the organs first appear."""
    grouped: dict[str, list[OrganScore]] = {}
    for score in scores:
        grouped.setdefault(score.key, []).append(score)
    return {key: mean_scores(group) for key, group in grouped.items()}


def mean_over_organs(by_organ: Mapping[str, Mapping[str, MetricMean]]) -> dict[str, MetricMean]:
    """Mean of the organs' means, so that every organ counts the same whatever its number of cases."""
    return {name: mean_of(means[name].value for means in by_organ.values()) for name in METRICS}

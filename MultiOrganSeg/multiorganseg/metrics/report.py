"""Means over scores that say how many values they stand on, and a comparison over cases as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from multiorganseg.metrics.compare import CaseScores
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


def report(
    cases: Mapping[str, CaseScores],
    *,
    tolerance_mm: float,
    failed: Mapping[str, str],
    without_prediction: Sequence[str],
) -> dict[str, Any]:
    """Return everything that was measured, with null for values that are not defined.

    Args:
        cases: Scores by case name.
        tolerance_mm: Tolerance of the normalised surface distance in mm.
        failed: What went wrong, by the name of a case that could not be compared; without folders.
        without_prediction: Cases of the reference that were never predicted.

    Returns:
        JSON-serialisable: scores by case and organ, means by organ, and the mean over organs. Each mean says
        over how many values it was taken.
    """
    by_organ = mean_by_organ(score for case in cases.values() for score in case.scores)
    return {
        "tolerance_mm": tolerance_mm,
        "cases": {name: _case(case) for name, case in cases.items()},
        "failed": dict(failed),
        "without_prediction": list(without_prediction),
        "organs": {key: _means(means) for key, means in by_organ.items()},
        "mean": _means(mean_over_organs(by_organ)),
    }


def _case(case: CaseScores) -> dict[str, Any]:
    organs = {}
    for score in case.scores:
        values = asdict(score)
        organs[values.pop("key")] = {name: _defined(value) for name, value in values.items()}
    return {
        "prediction": case.prediction.name,
        "reference": case.reference.name,
        "resampled": case.resampled,
        "extended": case.extended,
        "not_compared": list(case.not_compared),
        "organs": organs,
    }


def _means(means: Mapping[str, MetricMean]) -> dict[str, dict[str, Any]]:
    return {
        name: {"mean": _defined(mean.value), "count": mean.count, "undefined": mean.undefined}
        for name, mean in means.items()
    }


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

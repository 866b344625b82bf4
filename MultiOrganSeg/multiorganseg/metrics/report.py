"""A comparison over cases as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from multiorganseg.metrics.compare import CaseScores
from multiorganseg.metrics.summary import MetricMean, mean_by_organ, mean_over_organs


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

"""An evaluation as JSON and as CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from multiorganseg.atomic import write_text_atomically
from multiorganseg.csv_text import csv_text
from multiorganseg_training.evaluation.evaluate_run import Evaluation
from multiorganseg_training.evaluation.means import (
    LTUDA_METRICS,
    METRICS,
    OrganMeans,
    mean_over_organs,
    organ_means,
)
from multiorganseg_training.evaluation.organ_result import OrganResult

JSON_FILE = "evaluation.json"
CSV_FILE = "evaluation.csv"


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write `evaluation.json` and `evaluation.csv` into a folder.

    Raises:
        ResourceError: A file cannot be written.
    """
    content = json.dumps(evaluation_report(evaluation), indent=2, ensure_ascii=False)
    write_text_atomically(folder / JSON_FILE, content + "\n")
    write_text_atomically(folder / CSV_FILE, evaluation_csv(evaluation))


def evaluation_report(evaluation: Evaluation) -> dict[str, Any]:
    """Give what was measured, JSON-serialisable, with null for values that are not defined."""
    organs = organ_means(evaluation.cases)
    overall = mean_over_organs(organs)
    options = evaluation.options
    return {
        "recipe": evaluation.recipe.name,
        "seed": evaluation.recipe.seed,
        "run": evaluation.run.absolute().name,
        "iteration": evaluation.iteration,
        "weights": options.weights.value,
        "classifier": options.classifier.value,
        "split": options.split.value,
        "largest_components": options.components,
        "grid": "the network's",
        "spacing_mm": list(evaluation.recipe.preprocessing.spacing_mm),
        "tolerance_mm": options.tolerance_mm,
        "ltuda": {
            **_reading(organs, overall, LTUDA_METRICS),
            "slices": {key: means.slices for key, means in organs.items()},
            "slices_skipped": {key: means.slices_skipped for key, means in organs.items()},
        },
        "full": {
            **_reading(organs, overall, METRICS),
            "empty_predictions": {key: means.empty for key, means in organs.items()},
            "invented": {key: means.invented for key, means in organs.items()},
        },
        "cases": {
            name: {result.organ: _defined_values(result) for result in results}
            for name, results in evaluation.cases.items()
        },
    }


def evaluation_csv(evaluation: Evaluation) -> str:
    """Give one row a case and organ, cells empty where a value is not defined."""
    columns = [field.name for field in fields(OrganResult)]
    rows = (
        {"case": name, **{key: _defined(value) for key, value in asdict(result).items()}}
        for name, results in evaluation.cases.items()
        for result in results
    )
    return csv_text(["case", *columns], rows)


def _reading(organs: dict[str, OrganMeans], overall: OrganMeans, names: Iterable[str]) -> dict[str, Any]:
    listed = tuple(names)
    return {
        "organs": {key: _means(means, listed) for key, means in organs.items()},
        "mean": _means(overall, listed),
    }


def _means(means: OrganMeans, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    taken = ((name, means.metrics[name]) for name in names)
    return {
        name: {"mean": _defined(mean.value), "count": mean.count, "undefined": mean.undefined}
        for name, mean in taken
    }


def _defined_values(result: OrganResult) -> dict[str, Any]:
    return {name: _defined(value) for name, value in asdict(result).items() if name != "organ"}


def _defined(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(float(value), 6) if math.isfinite(value) else None

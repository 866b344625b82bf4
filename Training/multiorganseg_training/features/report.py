"""What a study found, as JSON and as tables."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from multiorganseg_training.features.organ_style import organ_name
from multiorganseg_training.features.pixels import FOLD, LABELLED, UNLABELLED
from multiorganseg_training.features.study import RunFeatures, Study
from multiorganseg_training.features.variance import PARTS

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 1


def study_json(study: Study) -> str:
    """Give all settings and figures; null where a figure is not defined.

    By run and part (labelled, unlabelled, all, fold): intra and inter as `Spread` defines them; by organ the
    number of pixels, intra and gap.
    """
    settings = asdict(study.settings)
    data = {
        "format": FORMAT,
        "settings": settings,
        "labelled_as_in": study.runs[0].recipe.name,
        "runs": [_run(run, study) for run in study.runs],
    }
    return json.dumps(_without_nan(data), indent=2) + "\n"


def variance_table(study: Study) -> Table:
    """Give intra-class and inter-class variance, one row for each run and part."""
    from rich.table import Table

    table = Table(title="Variance of features of unit length")
    for name in ("run", "features", "pixels"):
        table.add_column(name, overflow="fold")
    for name in ("intra-class", "inter-class"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in study.runs:
        for row, part in enumerate(_parts(study)):
            spread = run.spread
            names = ("", "") if row else (run.name, run.space)
            table.add_row(*names, part, _figure(spread.intra[part]), _figure(spread.inter[part]))
        table.add_section()
    return table


def gap_table(study: Study) -> Table:
    """Give the gap of each organ: 1 − cosine between its labelled and its unlabelled mean."""
    from rich.table import Table

    table = Table("organ", title="Gap between the labelled and the unlabelled mean (1 − cosine)")
    for name in ("labelled\npixels", "unlabelled\npixels", *(run.name for run in study.runs)):
        table.add_column(name, justify="right", overflow="fold")
    for key, organ in study.runs[0].spread.organs.items():
        counts = (str(organ.pixels[part]) for part in (LABELLED, UNLABELLED))
        table.add_row(organ_name(key), *counts, *(_figure(run.spread.organs[key].gap) for run in study.runs))
    table.add_section()
    table.add_row("mean", "", "", *(_figure(run.spread.gap) for run in study.runs))
    table.add_row("relative gap", "", "", *(_figure(run.spread.relative_gap) for run in study.runs))
    return table


def _run(run: RunFeatures, study: Study) -> dict[str, Any]:
    parts, spread = _parts(study), run.spread
    return {
        "name": run.name,
        "run": run.folder.as_posix(),
        "iteration": run.iteration,
        "seed": run.recipe.seed,
        "space": run.space,
        "intra": {part: spread.intra[part] for part in parts},
        "inter": {part: spread.inter[part] for part in parts},
        "gap": spread.gap,
        "relative_gap": spread.relative_gap,
        "organs": {
            key: {
                "pixels": {part: organ.pixels[part] for part in parts},
                "intra": {part: organ.intra[part] for part in parts},
                "gap": organ.gap,
            }
            for key, organ in spread.organs.items()
        },
    }


def _parts(study: Study) -> list[str]:
    return [part for part in PARTS if part != FOLD or study.settings.fold]


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value

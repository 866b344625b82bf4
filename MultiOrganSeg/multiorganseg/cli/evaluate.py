"""`multiorganseg evaluate`: score predictions against references."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from multiorganseg.atomic import write_text_atomically
from multiorganseg.cli.console import err, out, printable
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.kept import keep_inputs
from multiorganseg.errors import MultiOrganSegError, OrganError
from multiorganseg.metrics.compare import CasePairs, CaseScores, Comparison, compare_files, pair_cases
from multiorganseg.metrics.report import MetricMean, mean_by_organ, mean_over_organs, report
from multiorganseg.metrics.scores import BOTH, OrganScore
from multiorganseg.organs.table_file import read_table_file
from multiorganseg.outputs import require_free
from multiorganseg.privacy import folders_of, without_folders
from multiorganseg.unforeseen import as_typed

MOST_SHOWN = 12
COLUMNS = (("dice", 3), ("nsd", 3), ("hd95_mm", 1), ("absolute_volume_error_percent", 1))


@reported_errors()
def evaluate(
    prediction: Annotated[Path, typer.Option(help="Predicted labels: a file, or a folder of cases.")],
    reference: Annotated[Path, typer.Option(help="Reference labels: a file, or a folder of cases.")],
    prediction_labels: Annotated[
        Path | None, typer.Option(help='Label table of the predictions, JSON: {"1": "spleen"}.')
    ] = None,
    reference_labels: Annotated[Path | None, typer.Option(help="Label table of the references.")] = None,
    tolerance_mm: Annotated[float, typer.Option(min=0.0, help="Tolerance of the surface distance.")] = 2.0,
    organs: Annotated[str | None, typer.Option(help="Organ keys to compare, separated by commas.")] = None,
    merge: Annotated[
        list[str] | None, typer.Option(help="A union, such as kidneys=kidney_left+kidney_right.")
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring predictions onto the references' grids (nearest).")
    ] = False,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Write all scores here.")
    ] = None,
) -> None:
    """Compare segmentations with references, organ by organ.

    Organs are matched by key through the label tables: the table given (also a dataset.json of nnU-Net or the
    Decathlon), else X.labels.json beside X.nii.gz or the segments of a .seg.nrrd. What either side labels
    counts, also outside of the other's image. Two folders are matched by file name without suffix.
    """
    comparison = Comparison(
        prediction_table=read_table_file(prediction_labels) if prediction_labels else None,
        reference_table=read_table_file(reference_labels) if reference_labels else None,
        tolerance_mm=tolerance_mm,
        merge=_parse_merge(merge or ()),
        organs=tuple(key.strip() for key in organs.split(",") if key.strip()) if organs else None,
        resample=resample,
    )
    pairs = pair_cases(prediction, reference)
    read = [prediction_labels, reference_labels, *(path for pair in pairs.matched.values() for path in pair)]
    with keep_inputs(read):
        _evaluate(pairs, comparison, json_path, folders_of(prediction, reference))


def _evaluate(
    pairs: CasePairs, comparison: Comparison, json_path: Path | None, hidden: tuple[Path, ...]
) -> None:
    if json_path is not None:
        require_free(json_path)
    cases, failed = _compare_all(pairs, comparison)
    if len(pairs.matched) == 1 and failed:
        raise next(iter(failed.values()))
    if json_path is not None:
        problems = {name: without_folders(str(error), hidden) for name, error in failed.items()}
        content = report(
            cases,
            tolerance_mm=comparison.tolerance_mm,
            failed=problems,
            without_prediction=pairs.without_prediction,
        )
        write_text_atomically(json_path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    _show(cases, pairs, comparison.tolerance_mm)
    if failed:
        msg = f"{len(failed)} of {len(pairs.matched)} cases could not be compared."
        raise MultiOrganSegError(
            msg,
            cause="\n".join(f"{name}: {error}" for name, error in failed.items()),
            next_step="Mend these cases and run again.",
        )


def _compare_all(
    pairs: CasePairs, comparison: Comparison
) -> tuple[dict[str, CaseScores], dict[str, MultiOrganSegError]]:
    cases: dict[str, CaseScores] = {}
    failed: dict[str, MultiOrganSegError] = {}
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("Comparing", total=len(pairs.matched))
        for name, (predicted, expected) in pairs.matched.items():
            progress.update(task, description=f"Comparing {printable(name)}")
            try:
                cases[name] = compare_files(predicted, expected, comparison)
            except Exception as error:
                failed[name] = as_typed(error)
            progress.advance(task)
    return cases, failed


def _parse_merge(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    merged = {}
    for text in texts:
        key, separator, parts = text.partition("=")
        names = tuple(part.strip() for part in parts.split("+"))
        if not separator or not key.strip() or not all(names):
            msg = f"'{text}' is not a union of organs."
            raise OrganError(
                msg,
                next_step="Write it as kidneys=kidney_left+kidney_right.",
            )
        merged[key.strip()] = names
    return merged


def _show(cases: dict[str, CaseScores], pairs: CasePairs, tolerance_mm: float) -> None:
    scores = [score for case in cases.values() for score in case.scores]
    if scores:
        out.print(_table(scores, len(cases), tolerance_mm))
    for text, names in (
        (
            "Not compared, only in one label table",
            {key for case in cases.values() for key in case.not_compared},
        ),
        ("Brought onto the reference's grid", {name for name, case in cases.items() if case.resampled}),
        (
            "Labelled outside the reference's image, which counts as wrong",
            {name for name, case in cases.items() if case.extended},
        ),
        ("Reference without prediction, not in the means", pairs.without_prediction),
        ("Prediction without reference", pairs.without_reference),
    ):
        if names:
            out.print(Text(f"{text}: {_listed(names)}."))


def _listed(names: Collection[str]) -> str:
    """Return some names, and how many more there are; all of them stand in the JSON."""
    shown = sorted(names)[:MOST_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _table(scores: Sequence[OrganScore], cases: int, tolerance_mm: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", title_style="")
    table.title = f"{cases} {'case' if cases == 1 else 'cases'}; volume errors by magnitude"
    table.add_column("Organ", overflow="fold")
    for header in ("Dice", f"NSD {tolerance_mm:g} mm", "HD95 mm", "ΔVolume %"):
        table.add_column(header, justify="right")
    table.add_column("Note", overflow="fold")
    by_organ = mean_by_organ(scores)
    for key, means in by_organ.items():
        presence = Counter(score.presence for score in scores if score.key == key and score.presence != BOTH)
        note = ", ".join(text if cases == 1 else f"{text}: {count}" for text, count in presence.items())
        table.add_row(key, *(_text(means[name], digits) for name, digits in COLUMNS), note)
    table.add_row()
    overall = mean_over_organs(by_organ)
    table.add_row(
        "Mean over organs", *(_text(overall[name], digits) for name, digits in COLUMNS), style="bold"
    )
    table.add_row(
        "Organs in the mean", *(str(overall[name].count) for name, _ in COLUMNS), f"of {len(by_organ)}"
    )
    return table


def _text(mean: MetricMean, digits: int) -> str:
    return "–" if math.isnan(mean.value) else f"{mean.value:.{digits}f}"

"""What became of the cases of a run: on the terminal, and as one table of the whole cohort."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO, cast

import numpy as np
from rich.table import Table
from rich.text import Text

from multiorganseg.cli.case import Case
from multiorganseg.cli.cohort import CaseResult, Work
from multiorganseg.cli.console import err, out, printable
from multiorganseg.cli.errors import show_error
from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.outputs import open_stream, require_own
from multiorganseg.privacy import private
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.tables import statistics_rows
from multiorganseg.text import csv_text
from multiorganseg.volumes.names import case_name

COHORT_TABLE = "cohort.statistics.csv"


@contextmanager
def cohort_table(
    cases: Sequence[Case], work: Work, modality: str, catalogue: Catalogue
) -> Iterator[Callable[[CaseResult], None]]:
    """Give what writes the lines of a case into one CSV of all cases, where there are several.

    A line for each organ of each case; of a case that failed, one with its error. It is written case by case,
    so that it holds what is done even of a run that is killed. A table of many patients is for its owner
    alone.

    Args:
        cases: All of them.
        work: What is done with them; no table goes to an archive, or where "csv" is not wanted.
        modality: Of the images; decides the name of the mean's column.
        catalogue: Names and codes.

    Raises:
        ResourceError: It would replace an input or a file of another program, or cannot be written.
    """
    if work.sending or len(cases) < 2 or "csv" not in work.formats:
        yield lambda result: None
        return
    mean = "mean_hu" if modality == "CT" else "mean_intensity"
    columns = [
        *("case", "result", "seconds", "organ", "name", "snomed_code", "snomed_modifier", "voxels"),
        *("volume_ml", mean, "confidence", *(["uncertainty"] if work.options.uncertainty else [])),
        *("flags", "error"),
    ]
    places = {case.path: (case.folder / case_name(case.name)).as_posix() for case in cases}
    work.output.mkdir(parents=True, exist_ok=True)
    require_own(work.output / COHORT_TABLE, ".statistics.csv")
    with ExitStack() as files:
        with private():
            sink = files.enter_context(open_stream(work.output / COHORT_TABLE))
        yield _writer(sink, columns, places, modality, catalogue)


def _writer(
    sink: TextIO, columns: Sequence[str], places: Mapping[Path, str], modality: str, catalogue: Catalogue
) -> Callable[[CaseResult], None]:
    def add(result: CaseResult) -> None:
        state = "failed" if result.error else "done"
        about = {"case": places[result.source], "result": state, "seconds": round(result.seconds, 1)}
        rows = _organ_rows(result, modality, catalogue) or [{}]
        rows = [{**dict.fromkeys(columns, ""), **about, **row} for row in rows]
        rows[0]["error"] = result.error.problem if result.error else ""
        _write_lines(sink, columns, rows)

    sink.write(csv_text(columns, []))
    return add


def _organ_rows(result: CaseResult, modality: str, catalogue: Catalogue) -> list[dict[str, object]]:
    statistics = result.statistics or ()
    if not statistics:
        return []
    table = LabelTable.numbered(row.key for row in statistics)
    measured = Segmentation(np.zeros((0, 0, 0), np.uint8), np.eye(4), table, statistics)
    rows = statistics_rows(measured, catalogue, modality=modality)
    return [{**row, "flags": "; ".join(cast("list[str]", row["flags"]))} for row in rows]


def _write_lines(sink: TextIO, columns: Sequence[str], rows: Sequence[dict[str, object]]) -> None:
    sink.write(csv_text(columns, rows).partition("\n")[2])
    sink.flush()


def show_results(results: Sequence[CaseResult], catalogue: Catalogue) -> None:
    """Print warnings and errors, the organs of a single case, and a table of several, the worst first."""
    names = Counter(result.source.name for result in results)

    def called(result: CaseResult) -> str:
        if names[result.source.name] == 1:
            return printable(result.source.name)
        try:
            root = os.path.commonpath([each.source.absolute().parent for each in results])
            return printable(os.path.relpath(result.source, root))
        except ValueError:  # they lie on several drives
            return printable(str(result.source))

    for result in results:
        for message in (*result.messages, *result.asides):
            whose = (f"{called(result)}: ", "yellow")
            err.print(Text.assemble(whose, printable(message, lines=True)), soft_wrap=True)
        if result.error:
            err.print(Text(printable(str(result.source)), "bold"), soft_wrap=True)
            show_error(result.error)
    done = [result for result in results if result.statistics is not None]
    if len(done) == 1:
        _show_organs(done[0], catalogue)
    if len(results) == 1 and results[0].earlier and results[0].sent_to:
        out.print(f"{called(results[0])}: {printable(results[0].sent_to)} has the results already.")
        out.print("To segment and send it again: --again", style="dim")
    if len(results) > 1:
        table = Table("case", "result", "seconds", "organs found", "to look at")
        for result in sorted(results, key=_first_to_look_at):
            rows = result.statistics or ()
            state = Text("failed", "red") if result.error else Text("done", "green")
            if result.earlier:
                state = Text("done before", "green")
            look_at = Text(", ".join(row.key for row in rows if row.flags) or "–")
            if result.unlike_training:
                look_at = Text("the whole scan: unlike the training", "yellow")
            found = str(sum(row.voxels > 0 for row in rows))
            table.add_row(called(result), state, f"{result.seconds:.1f}", found, look_at)
        out.print(table)


def _first_to_look_at(result: CaseResult) -> int:
    return 0 if result.error else 1 if result.unlike_training else 2


def _show_organs(result: CaseResult, catalogue: Catalogue) -> None:
    rows = result.statistics or ()
    mapped = any(row.uncertainty is not None for row in rows)
    columns = ("organ", "volume ml", "mean", "confidence", *(["uncertainty"] if mapped else []), "to look at")
    table = Table(*columns, title=printable(result.source.name))
    for row in sorted(rows, key=lambda row: (not row.flags, -row.volume_ml)):
        organ = catalogue.get(row.key)
        red, green, blue = organ.color
        table.add_row(
            Text.assemble(("■", f"rgb({red},{green},{blue})"), f" {printable(organ.name)}"),
            f"{row.volume_ml:.1f}",
            f"{row.mean_intensity:.0f}" if row.voxels else "–",
            f"{row.confidence:.2f}" if row.voxels else "–",
            *([f"{row.uncertainty:.2f}" if row.voxels else "–"] if mapped else []),
            ", ".join(flag.replace("_", " ") for flag in row.flags),
        )
    out.print(table)
    where = f"Sent to {printable(result.sent_to)}" if result.sent_to else "Written"
    out.print(f"{result.seconds:.1f} s. {where}:", soft_wrap=True)
    for file in result.files:
        out.print(f"  {printable(file.name if result.sent_to else str(file))}", soft_wrap=True)

"""What became of the cases of a run: on the terminal, and as one table of the whole cohort."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, cast

from rich.table import Table
from rich.text import Text

from multiorganseg.cli.case import Case
from multiorganseg.cli.console import err, out, printable
from multiorganseg.cli.errors import show_error
from multiorganseg.csv_text import csv_text
from multiorganseg.errors import MultiOrganSegError
from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.tables import statistics_rows
from multiorganseg.volumes.names import case_name


@dataclass(frozen=True)
class CaseResult:
    """What became of one case.

    Attributes:
        source: The input.
        seconds: How long it took.
        files: What was written.
        segmentation: None when it failed.
        error: None when it went well.
        sent_to: The archive that has the files.
        is_there: Whether the archive had them before, so that nothing was done.
        messages: Warnings.
        asides: Warnings of other libraries, which may quote the patient's name: for the terminal alone.
    """

    source: Path
    seconds: float
    files: tuple[Path, ...] = ()
    segmentation: Segmentation | None = None
    error: MultiOrganSegError | None = None
    messages: tuple[str, ...] = field(default=())
    asides: tuple[str, ...] = field(default=())
    sent_to: str = ""
    is_there: bool = False


COHORT_TABLE = "cohort.statistics.csv"


class CohortTable:
    """One CSV of all cases, written line by line so that it holds what is done even of a run that is killed.

    A line for each organ of each case; of a case that failed, one with its error.

    Args:
        sink: Open text file.
        modality: Of the images; decides the name of the mean's column.
        uncertainty: Whether there is a column for it.
    """

    def __init__(self, sink: TextIO, modality: str, uncertainty: bool) -> None:
        self._sink, self._modality = sink, modality
        mean = "mean_hu" if modality == "CT" else "mean_intensity"
        self._columns = [
            *("case", "result", "seconds", "organ", "name", "snomed_code", "snomed_modifier", "voxels"),
            *("volume_ml", mean, "confidence", *(["uncertainty"] if uncertainty else []), "flags", "error"),
        ]
        sink.write(csv_text(self._columns, []))

    def add(self, case: Case, result: CaseResult, catalogue: Catalogue) -> None:
        """Write the lines of a case."""
        place = (case.folder / case_name(case.name)).as_posix()
        state = "done" if result.segmentation else "there already" if result.is_there else "failed"
        about = {"case": place, "result": state, "seconds": round(result.seconds, 1), "error": ""}
        if result.segmentation:
            found = statistics_rows(result.segmentation, catalogue, modality=self._modality)
            flags = [{**row, "flags": "; ".join(cast("list[str]", row["flags"]))} for row in found]
            rows = [{**about, **row} for row in flags] or [about]
        else:
            rows = [{**about, "error": result.error.problem if result.error else ""}]
        lines = csv_text(self._columns, ({**dict.fromkeys(self._columns, ""), **row} for row in rows))
        self._sink.write(lines.partition("\n")[2])
        self._sink.flush()


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
    done = [result for result in results if result.segmentation]
    if len(done) == 1:
        _show_organs(done[0], catalogue)
    if len(results) == 1 and results[0].is_there:
        out.print(f"{called(results[0])}: {printable(results[0].sent_to)} has the results already.")
        out.print("To segment and send it again: --again", style="dim")
    if len(results) > 1:
        table = Table("case", "result", "seconds", "organs found", "to look at")
        for result in sorted(results, key=_first_to_look_at):
            found = [s for s in result.segmentation.statistics if s.voxels] if result.segmentation else []
            flagged = (
                [s.key for s in result.segmentation.statistics if s.flags] if result.segmentation else []
            )
            state = Text("done", "green") if result.segmentation else Text("failed", "red")
            state = Text("there already", "green") if result.is_there else state
            look_at = Text(", ".join(flagged) or "–")
            if _is_unlike_training(result):
                look_at = Text("the whole scan: unlike the training", "yellow")
            seconds = f"{result.seconds:.1f}"
            table.add_row(called(result), state, seconds, str(len(found)), look_at)
        out.print(table)


def _first_to_look_at(result: CaseResult) -> int:
    if result.segmentation is None:
        return 0
    return 1 if _is_unlike_training(result) else 2


def _is_unlike_training(result: CaseResult) -> bool:
    return bool(result.segmentation and result.segmentation.provenance.get("unlike_training"))


def _show_organs(result: CaseResult, catalogue: Catalogue) -> None:
    assert result.segmentation is not None
    mapped = result.segmentation.uncertainty is not None
    columns = ("organ", "volume ml", "mean", "confidence", *(["uncertainty"] if mapped else []), "to look at")
    table = Table(*columns, title=printable(result.source.name))
    for row in sorted(result.segmentation.statistics, key=lambda row: (not row.flags, -row.volume_ml)):
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

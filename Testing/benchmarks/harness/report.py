"""A table as text on the console and as Markdown in a file, with the machine above it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.machine import Machine
from multiorganseg.atomic import write_text_atomically

PRINTED_WIDTH = 180


@dataclass(frozen=True)
class Report:
    """One table of a benchmark.

    Attributes:
        title: Stands above it.
        header: Names of the columns; the first ones are texts, the others right-aligned.
        rows: Cells.
        texts: Number of columns that hold texts.
        notes: Stand below it.
    """

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    texts: int = 1
    notes: tuple[str, ...] = ()

    def table(self) -> Table:
        """Return the table for a terminal."""
        table = Table(title=self.title)
        for number, name in enumerate(self.header):
            table.add_column(name, justify="left" if number < self.texts else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def markdown(self) -> str:
        """Return the table in Markdown."""
        rule = ["---"] * self.texts + ["---:"] * (len(self.header) - self.texts)
        lines = [f"| {' | '.join(cells)} |" for cells in (self.header, rule, *self.rows)]
        return "\n".join([f"**{self.title}**", "", *lines, *(f"\n{note}" for note in self.notes)])


def publish(name: str, folder: Path, machine: Machine, reports: Sequence[Report], raw: Any) -> None:
    """Print the tables and write `<name>.md` and `<name>.json`.

    Args:
        name: Of the benchmark.
        folder: Where the files go.
        machine: Where and when it ran.
        reports: The tables.
        raw: Everything that was measured, JSON-serialisable.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PRINTED_WIDTH)
    for line in machine.lines():
        console.print(Text(line))
    for report in reports:
        console.print(report.table())
        for note in report.notes:
            console.print(Text(note))
    parts = ["\n".join(f"- {line}" for line in machine.lines()), *(report.markdown() for report in reports)]
    write_text_atomically(folder / f"{name}.md", "\n\n".join(parts) + "\n")
    content = {"machine": asdict(machine), "results": raw}
    write_text_atomically(folder / f"{name}.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    console.print(Text(f"Written: {folder / name}.md, {folder / name}.json"))

"""The label-status matrix as tables for people."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from multiorganseg_training.project.matrix import LabelStatusMatrix
from multiorganseg_training.project.status import LabelStatus

SYMBOLS = {
    LabelStatus.ANNOTATED: ("●", "green"),
    LabelStatus.ABSENT: ("–", "cyan"),
    LabelStatus.UNKNOWN: ("?", "dim"),
    LabelStatus.PSEUDO: ("~", "yellow"),
}
"""Character and style of each status; the characters alone tell the statuses apart."""

LEGEND = ", ".join(f"{SYMBOLS[status][0]} {status.value}" for status in LabelStatus)
"""What the characters mean."""


def counts_table(matrix: LabelStatusMatrix) -> Table:
    """Give one row an organ with the number of cases of each status."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Organ")
    for status in LabelStatus:
        table.add_column(status.value, justify="right")
    for organ in matrix.organs:
        counts = [matrix.count(organ, status) for status in LabelStatus]
        table.add_row(organ, *(str(count) if count else "" for count in counts))
    return table


def cases_table(matrix: LabelStatusMatrix) -> Table:
    """Give one row a case with a character of `LEGEND` for the status of each organ."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Case", overflow="fold")
    for organ in matrix.organs:
        table.add_column(organ, justify="center", overflow="fold")
    for case, row in matrix.rows.items():
        table.add_row(Text(case), *(Text(*SYMBOLS[row[organ]]) for organ in matrix.organs))
    return table

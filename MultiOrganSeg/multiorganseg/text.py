"""Numbers of things in a sentence, and CSV that a spreadsheet shows as it is and never runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def counted(count: int, one: str, many: str, **parts: object) -> str:
    """Fill `{count}` and other parts into the form for one thing, or into that for any other number.

    Example:
        >>> counted(1, "{count} case", "{count} cases")
        '1 case'
    """
    return (one if count == 1 else many).format(count=count, **parts)


def cases_text(count: int) -> str:
    """Return a number of cases in English."""
    return counted(count, "{count} case", "{count} cases")


_STARTS_A_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a table as CSV text, its first line the names of the columns.

    A text that a spreadsheet would take for a formula gets an apostrophe before it, as OWASP advises against
    "CSV injection". Numbers stay numbers.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_cell(column) for column in columns])
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """What is written; half of a surrogate pair, as file names hold it, is no character."""
    if not isinstance(value, str):
        return value
    value = value.encode("utf-8", "replace").decode("utf-8")
    return f"'{value}" if value.lstrip(" ").startswith(_STARTS_A_FORMULA) else value

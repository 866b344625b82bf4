"""Numbers of things in a sentence."""

from __future__ import annotations


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

"""What a command noticed on the way."""

from __future__ import annotations

from slicer.i18n import tr as _

_MARKS = ("Warning: ", "Lost: ", "Left out: ")
_MOST = 6


def noted(log: str) -> list[str]:
    """Lines in which a command told of something that the user should know, without their marks."""
    lines = [line.strip() for line in log.splitlines()]
    found = [line.removeprefix(mark) for line in lines for mark in _MARKS if line.startswith(mark)]
    more = len(found) - _MOST
    return found if more <= 0 else [*found[:_MOST], _("… and {count} more").format(count=more)]

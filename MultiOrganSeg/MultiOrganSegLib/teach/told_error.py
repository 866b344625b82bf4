"""The error that a command wrote to its standard error, as a typed error again."""

from __future__ import annotations

from multiorganseg.errors import MultiOrganSegError
from MultiOrganSegLib.failure import told_failure, untold_failure

_ERROR, _NEXT = "Error: ", "Next: "


def command_error(log: str, exit_code: int | None) -> MultiOrganSegError:
    """Read problem, cause and next step from the end of a command's output."""
    start = 0 if log.startswith(_ERROR) else log.rfind("\n" + _ERROR) + 1
    if not log[start:].startswith(_ERROR):
        return untold_failure(exit_code, log)
    lines = log[start + len(_ERROR) :].strip().splitlines()
    step = next((number for number, line in enumerate(lines) if line.startswith(_NEXT)), len(lines))
    event = {
        "problem": lines[0] if lines else "",
        "cause": "\n".join(lines[1:step]),
        "next_step": "\n".join(lines[step:])[len(_NEXT) :],
    }
    return told_failure(event, exit_code)

"""Which case to annotate next, as the training side ranks them."""

from __future__ import annotations

import json
from pathlib import Path

from slicer.i18n import tr as _

from multiorganseg.errors import TrainingError


def read_ranking(path: Path) -> list[tuple[str, str]]:
    """Return names of cases with the reason, best first.

    Raises:
        TrainingError: The file cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return [(str(entry["case"]), str(entry.get("reason", ""))) for entry in data["cases"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            _("The ranking of the cases cannot be read."),
            cause=f"{type(error).__name__}: {error}",
            next_step=_("Choose a case yourself."),
        ) from error

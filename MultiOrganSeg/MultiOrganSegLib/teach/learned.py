"""What the trainings of a project tell about the number of annotated cases."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from multiorganseg.errors import TrainingError


@dataclass(frozen=True)
class Learned:
    """One organ.

    Attributes:
        organ: Organ key.
        points: Number of annotated cases and Dice on held-out cases, one pair a training.
        sentence: The estimate; empty when there are too few trainings for one.
        picture: The curve; None without an estimate.
    """

    organ: str
    points: tuple[tuple[int, float], ...]
    sentence: str
    picture: Path | None


def read_learned(path: Path) -> list[Learned]:
    """Read what `project learning-curve` wrote.

    Raises:
        TrainingError: The file cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return [
            Learned(
                str(key),
                tuple((int(point["cases"]), float(point["dice"])) for point in entry["points"]),
                str(entry["sentence"]),
                Path(entry["picture"]) if entry["picture"] else None,
            )
            for key, entry in data["organs"].items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            _("The learning curve cannot be read."),
            cause=f"{type(error).__name__}: {error}",
            next_step=_("Try again."),
        ) from error

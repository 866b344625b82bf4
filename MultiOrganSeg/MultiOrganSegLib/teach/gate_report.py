"""A run's comparison of old and new organs, as `gate.json` says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from multiorganseg.errors import TrainingError

PASS, FAIL, UNPROVEN = "pass", "fail", "unproven"
_WORST_FIRST = {FAIL: 0, UNPROVEN: 1, PASS: 2}


@dataclass(frozen=True)
class OrganVerdict:
    """One organ, before and after.

    Attributes:
        key: Organ key.
        is_new: Whether the base did not know it.
        by_base: Whether it was compared with what the base says, since nobody annotated it.
        dice_old: Of the base; None where it was not measured.
        dice_new: Of the new network; None where it was not measured.
        difference: New less old; None where one is missing.
        interval: Its confidence interval; None where there are too few cases.
        verdict: `PASS`, `FAIL` or `UNPROVEN`.
        why: In a sentence.
        cases: How many were compared.
        worst_case: Name of the worst one; empty when none was compared.
        picture: Of the worst case; None when there is none.
    """

    key: str
    is_new: bool
    by_base: bool
    dice_old: float | None
    dice_new: float | None
    difference: float | None
    interval: tuple[float, float] | None
    verdict: str
    why: str
    cases: int
    worst_case: str
    picture: Path | None


@dataclass(frozen=True)
class GateReport:
    """All organs of a run, new ones first, then the worst.

    Attributes:
        passed: Whether the new network may be published.
        how: "hold-out", "cross-validation" or "none".
        cases: Names of the cases that were compared.
        organs: Their verdicts.
    """

    passed: bool
    how: str
    cases: tuple[str, ...]
    organs: tuple[OrganVerdict, ...]


def read_gate(path: Path) -> GateReport:
    """Read a `gate.json`.

    Raises:
        TrainingError: The file cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        organs = [_verdict(key, entry, path.parent) for key, entry in data["organs"].items()]
        organs.sort(key=lambda organ: (not organ.is_new, _WORST_FIRST.get(organ.verdict, 0)))
        cases = tuple(str(name) for name in data.get("cases", ()))
        return GateReport(bool(data["passed"]), str(data.get("how", "")), cases, tuple(organs))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            _("The report {path} cannot be read.").format(path=path),
            cause=f"{type(error).__name__}: {error}",
            next_step=_("Compare again."),
        ) from error


def _verdict(key: str, entry: Mapping[str, Any], folder: Path) -> OrganVerdict:
    interval, picture = entry.get("confidence_interval"), entry.get("picture")
    return OrganVerdict(
        key,
        entry.get("role") == "new",
        entry.get("reference") == "base",
        entry.get("dice_old"),
        entry.get("dice_new"),
        entry.get("difference"),
        None if interval is None else (float(interval[0]), float(interval[1])),
        str(entry["verdict"]),
        str(entry.get("why", "")),
        int(entry.get("cases", 0)),
        str(entry.get("worst_case") or ""),
        _picture(str(picture), folder) if picture else None,
    )


def _picture(said: str, folder: Path) -> Path | None:
    found = (path for path in (folder / said, folder / "pictures" / said) if path.is_file())
    return next(found, None)

"""The report of an acceptance check: old against new, organ by organ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles.json_text import format_json
from multiorganseg.earlier import existing
from multiorganseg.errors import TrainingError
from multiorganseg.projects.file import read_json
from multiorganseg.projects.runs import ACCEPTANCE_FILE
from multiorganseg.schema import Count, Finite, NotNegative, Share, one_of, typed

How = Annotated[str, one_of("hold-out", "cross-validation", "none")]
MARGIN = 0.01
FLOOR = 0.5


class Verdict(str, Enum):
    """What an acceptance check says of an organ.

    Attributes:
        PASS: Measured, and as good as asked for.
        FAIL: Measured, and not as good as asked for.
        UNPROVEN: Not measured well enough to say either.
    """

    PASS = "pass"
    FAIL = "fail"
    UNPROVEN = "unproven"


@dataclass(frozen=True)
class OrganVerdict:
    """Old against new network for one organ, as means over the held-out cases that count.

    Attributes:
        role: "old" for an organ of the base, "new" for one that was learned.
        reference: "annotated": both networks against annotations. "base": the new network against the result
            of the base, for an old organ that is annotated in no held-out case.
        cases: Number of cases that the figures stand on.
        dice_old: Of the base in [0, 1]; None for a new organ and without annotations.
        dice_new: Of the new network in [0, 1]; None where nothing was measured.
        nsd_old: Normalised surface distance at 2 mm of the base, as `dice_old`.
        nsd_new: Of the new network, as `dice_new`.
        volume_ml_old: Mean volume in the base's results; None for a new organ.
        volume_ml_new: Mean volume in the new network's results.
        difference: `dice_new` − `dice_old`; None where one of them is.
        confidence_interval: 95 % interval from a bootstrap over cases: of the difference where there is one,
            else of `dice_new`; None with fewer than 3 cases.
        verdict: See `Verdict`.
        why: The reason, for people.
        worst_case: Case with the largest loss (lowest Dice where there is no difference).
        picture: File relative to the run's folder, with "/" between its parts.
    """

    role: Annotated[str, one_of("old", "new")]
    reference: Annotated[str, one_of("annotated", "base")]
    cases: Count
    dice_old: Share | None
    dice_new: Share | None
    nsd_old: Share | None
    nsd_new: Share | None
    volume_ml_old: NotNegative | None
    volume_ml_new: NotNegative | None
    difference: Finite | None
    confidence_interval: tuple[Finite, Finite] | None
    verdict: Verdict
    why: str
    worst_case: str | None = None
    picture: str | None = None


@dataclass(frozen=True)
class AcceptanceReport:
    """Whether a network may take the place of its base.

    Attributes:
        base_name: Name of the base.
        base_version: Its version.
        base_sha256: Its digest.
        run: Name of the run's folder.
        cases: Held-out cases.
        how: "hold-out", "cross-validation" or "none".
        margin: By how much the mean Dice of an old organ may fall.
        floor: Mean Dice that a new organ must reach.
        organs: Verdict by organ key: first the base's, then the new ones.
        training_cases: By new organ, how many cases with its annotation trained what was measured.
    """

    base_name: str
    base_version: str
    base_sha256: str
    run: str
    cases: tuple[str, ...]
    how: How
    margin: Finite
    floor: Finite
    organs: Mapping[str, OrganVerdict]
    training_cases: Mapping[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no organ fails and every new one passes; an unproven old organ does not count.

        Where there is no new organ, as when branches were merged, every organ must pass.
        """
        verdicts = self.organs.values()
        must = self.with_role("new") or self.organs
        return all(organ.verdict is not Verdict.FAIL for organ in verdicts) and all(
            organ.verdict is Verdict.PASS for organ in must.values()
        )

    def with_role(self, role: str) -> dict[str, OrganVerdict]:
        """Verdicts of the "old" or of the "new" organs."""
        return {key: organ for key, organ in self.organs.items() if organ.role == role}

    def worst_first(self) -> dict[str, OrganVerdict]:
        """Verdicts of the new organs, then of the old ones; each by verdict, the failed ones first."""
        order = (Verdict.FAIL, Verdict.UNPROVEN, Verdict.PASS)
        entries = sorted(
            self.organs.items(), key=lambda entry: (entry[1].role != "new", order.index(entry[1].verdict))
        )
        return dict(entries)


SCHEMA_VERSION = 1


def save_acceptance(acceptance: AcceptanceReport, run: Path) -> None:
    """Write `acceptance.json` into a run's folder, at once or not at all.

    Raises:
        ResourceError: The file cannot be written.
    """
    write_text_atomically(run / ACCEPTANCE_FILE, format_json(acceptance_to_json(acceptance)))


def load_acceptance(run: Path) -> AcceptanceReport | None:
    """Read the `acceptance.json` of a run; None when there is none yet.

    Raises:
        TrainingError: The file is damaged or of another version.
    """
    path = existing(run / ACCEPTANCE_FILE)
    if not path.is_file():
        return None
    data = read_json(path, SCHEMA_VERSION)
    try:
        return _acceptance(data, path.name)
    except TrainingError as error:
        msg = f"{path} cannot be used."
        raise TrainingError(
            msg, cause=error.cause, next_step="Repeat it: multiorganseg-train acceptance --help"
        ) from error


def acceptance_to_json(acceptance: AcceptanceReport) -> dict[str, Any]:
    """Return the JSON object of `acceptance.json`."""
    base = {name: getattr(acceptance, f"base_{name}") for name in ("name", "version", "sha256")}
    return {
        "schema_version": SCHEMA_VERSION,
        "base": base,
        **{name: getattr(acceptance, name) for name in _SHARED},
        "cases": list(acceptance.cases),
        "organs": {key: _organ_to_json(organ) for key, organ in acceptance.organs.items()},
        "passed": acceptance.passed,
    }


def _organ_to_json(organ: OrganVerdict) -> dict[str, Any]:
    values = asdict(organ)
    interval = organ.confidence_interval
    values["confidence_interval"] = None if interval is None else [_rounded(end) for end in interval]
    values["verdict"] = organ.verdict.value
    return {name: _rounded(value) for name, value in values.items()}


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


_SHARED = ("run", "cases", "how", "margin", "floor", "training_cases")


@dataclass(frozen=True)
class _Base:
    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class _AcceptanceFile:
    base: _Base
    run: str
    cases: tuple[str, ...]
    how: How
    margin: Finite
    floor: Finite
    organs: dict[str, OrganVerdict]
    training_cases: dict[str, Count] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    passed: bool | None = None


def _acceptance(data: Mapping[str, Any], what: str) -> AcceptanceReport:
    said = typed(_AcceptanceFile, data, what)
    base = (said.base.name, said.base.version, said.base.sha256)
    return AcceptanceReport(*base, **{name: getattr(said, name) for name in (*_SHARED, "organs")})

"""The label-status matrix: what is known of each organ in each case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from multiorganseg.errors import TrainingError
from multiorganseg.organs.catalogue import Catalogue


class LabelStatus(str, Enum):
    """What people say about an organ in a case; it is never inferred from voxels.

    Attributes:
        ANNOTATED: Every voxel of the organ in the image carries its label.
        ABSENT: The image holds no voxel of the organ, and no label does.
        UNKNOWN: Nobody labelled the organ; it may be anywhere outside the labels.
        PSEUDO: The label comes from a network and was not corrected.
    """

    ANNOTATED = "annotated"
    ABSENT = "absent"
    UNKNOWN = "unknown"
    PSEUDO = "pseudo"


KNOWN = frozenset({LabelStatus.ANNOTATED, LabelStatus.ABSENT})
"""Statuses under which every voxel of an image is known to belong to the organ or not."""

LABELLED = frozenset({LabelStatus.ANNOTATED, LabelStatus.PSEUDO})
"""Statuses under which a label file may hold voxels of the organ."""


def united(parts: Iterable[LabelStatus]) -> LabelStatus:
    """Return the status of the union of several organs, such as of both kidneys.

    The union is known only when every part is, and of no better origin than its worst part.

    Args:
        parts: Status of each part; at least one.
    """
    statuses = set(parts)
    if LabelStatus.UNKNOWN in statuses:
        return LabelStatus.UNKNOWN
    if LabelStatus.PSEUDO in statuses:
        return LabelStatus.PSEUDO
    return LabelStatus.ANNOTATED if LabelStatus.ANNOTATED in statuses else LabelStatus.ABSENT


@dataclass(frozen=True)
class LabelStatusMatrix:
    """Case × organ. An organ that a case says nothing about is unknown there.

    Attributes:
        organs: Organ keys, the columns.
        rows: By case name, the status of every organ in the order of `organs`. What is left out is filled in
            as unknown.
    """

    organs: tuple[str, ...]
    rows: Mapping[str, Mapping[str, LabelStatus]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the keys and fill the rows.

        Raises:
            TrainingError: An organ stands twice, or a row speaks of an organ that is no column.
        """
        doubled = [key for key, count in Counter(self.organs).items() if count > 1]
        if doubled:
            msg = f"The label-status matrix names {', '.join(doubled)} more than once."
            raise TrainingError(msg, next_step="Keep each organ once.")
        for case, row in self.rows.items():
            for organ in row:
                self._need_organ(organ, f"The case '{case}' speaks of it. ")
        filled = {
            case: {organ: LabelStatus(row.get(organ, LabelStatus.UNKNOWN)) for organ in self.organs}
            for case, row in self.rows.items()
        }
        object.__setattr__(self, "rows", filled)

    @property
    def cases(self) -> tuple[str, ...]:
        """Case names in the order of the rows."""
        return tuple(self.rows)

    def status(self, case: str, organ: str) -> LabelStatus:
        """Status of an organ in a case.

        Raises:
            TrainingError: There is no such case or organ.
        """
        self._need_organ(organ)
        return self._row(case)[organ]

    def known(self, case: str) -> frozenset[str]:
        """Organs of which every voxel of the case is known: annotated or absent.

        Raises:
            TrainingError: There is no such case.
        """
        return frozenset(organ for organ, status in self._row(case).items() if status in KNOWN)

    def organs_with(self, case: str, status: LabelStatus) -> frozenset[str]:
        """Organs that have a status in a case.

        Raises:
            TrainingError: There is no such case.
        """
        return frozenset(organ for organ, found in self._row(case).items() if found is status)

    def count(self, organ: str, status: LabelStatus) -> int:
        """Number of cases in which an organ has a status.

        Raises:
            TrainingError: There is no such organ.
        """
        self._need_organ(organ)
        return sum(row[organ] is status for row in self.rows.values())

    def counts(self, organ: str) -> Counter[LabelStatus]:
        """Number of cases by status of an organ.

        Raises:
            TrainingError: There is no such organ.
        """
        self._need_organ(organ)
        return Counter(row[organ] for row in self.rows.values())

    def with_status(self, case: str, organ: str, status: LabelStatus) -> LabelStatusMatrix:
        """Copy with one entry set.

        Raises:
            TrainingError: There is no such case or organ.
        """
        return self.with_statuses([case], [organ], status)

    def with_statuses(
        self, cases: Iterable[str], organs: Iterable[str], status: LabelStatus
    ) -> LabelStatusMatrix:
        """Copy with the entries of several cases and organs set.

        Raises:
            TrainingError: There is no such case or organ.
        """
        changes = dict.fromkeys(organs, status)
        for organ in changes:
            self._need_organ(organ)
        changed = {case: {**self._row(case), **changes} for case in cases}
        return LabelStatusMatrix(self.organs, {**self.rows, **changed})

    def with_case(self, case: str, row: Mapping[str, LabelStatus] | None = None) -> LabelStatusMatrix:
        """Copy with a new last row; organs that `row` leaves out are unknown.

        Raises:
            TrainingError: The case exists, or the row speaks of an organ that is no column.
        """
        if case in self.rows:
            msg = f"The label-status matrix has a case '{case}' already."
            raise TrainingError(msg, next_step="Choose another name, or remove the case first.")
        return LabelStatusMatrix(self.organs, {**self.rows, case: row or {}})

    def without_case(self, case: str) -> LabelStatusMatrix:
        """Copy without a row.

        Raises:
            TrainingError: There is no such case.
        """
        self._row(case)
        return LabelStatusMatrix(self.organs, {name: row for name, row in self.rows.items() if name != case})

    def with_organ(self, organ: str, status: LabelStatus = LabelStatus.UNKNOWN) -> LabelStatusMatrix:
        """Copy with a new last column of one status.

        Raises:
            TrainingError: The organ is a column already.
        """
        rows = {case: {**row, organ: status} for case, row in self.rows.items()}
        return LabelStatusMatrix((*self.organs, organ), rows)

    def without_organ(self, organ: str) -> LabelStatusMatrix:
        """Copy without a column.

        Raises:
            TrainingError: There is no such organ.
        """
        self._need_organ(organ)
        organs = tuple(key for key in self.organs if key != organ)
        return LabelStatusMatrix(
            organs, {case: {key: row[key] for key in organs} for case, row in self.rows.items()}
        )

    def check_organs(self, catalogue: Catalogue) -> None:
        """Check that the catalogue knows every column.

        Raises:
            OrganError: It does not; the error names the keys that look alike.
        """
        for organ in self.organs:
            catalogue.get(organ)

    def _row(self, case: str) -> Mapping[str, LabelStatus]:
        if case not in self.rows:
            msg = f"The label-status matrix has no case '{case}'."
            raise TrainingError(msg, next_step="List them: multiorganseg-train project status --cases")
        return self.rows[case]

    def _need_organ(self, organ: str, cause: str = "") -> None:
        if organ not in self.organs:
            msg = f"The label-status matrix has no organ '{organ}'."
            raise TrainingError(
                msg,
                cause=f"{cause}It has: {', '.join(self.organs) or 'none'}.",
                next_step="Add the organ first.",
            )

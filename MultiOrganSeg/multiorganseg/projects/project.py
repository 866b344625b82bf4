"""A project: a folder of cases and what is known about their labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.bundles.safe_names import clashes, name_problem
from multiorganseg.errors import TrainingError
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.matrix import LABELLED, LabelStatus, LabelStatusMatrix

if TYPE_CHECKING:
    from multiorganseg.results.segmentation import Author

MODALITIES = ("CT", "MR")


@dataclass(frozen=True)
class ProjectCase:
    """One image, with its labels where it has any.

    Attributes:
        name: Of the case.
        image: File relative to the project's folder, with "/" between its parts.
        labels: Label file, relative as well, on the image's grid; None when nothing is labelled.
        source: Dataset that it came from, a key of `Project.sources`; empty for own cases.
        patient: Code of the patient, the same in all of their cases; empty where nobody said whose it is.
        corrected: Keys of annotated organs that a network drew before people corrected them.
    """

    name: str
    image: str
    labels: str | None
    source: str = ""
    patient: str = ""
    corrected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Project:
    """Cases, the meaning of their label values, and the label-status matrix.

    Attributes:
        folder: Where `project.json`, `images/` and `labels/` lie.
        name: For people, and the prefix of cases whose names clash in a merge.
        table: Meaning of the values in all label files.
        cases: By name, in the order of the matrix.
        matrix: Its columns are the organs of the table, its rows the cases.
        modality: "CT" or "MR".
        sources: By name of a dataset, what it says of itself, such as its licence and reference.
        custom_organs: By organ key, organs of the table that the catalogue does not know.
        patient_key: Secret that makes codes of patients from those in DICOM; empty until one is made.
    """

    folder: Path
    name: str
    table: LabelTable
    cases: Mapping[str, ProjectCase]
    matrix: LabelStatusMatrix
    modality: str = "CT"
    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    custom_organs: Mapping[str, CustomOrgan] = field(default_factory=dict)
    patient_key: str = ""

    def __post_init__(self) -> None:
        """Check the parts against each other; no file is read.

        Raises:
            TrainingError: They contradict each other, or a name is not safe as that of a file.
        """
        problem = self._problem()
        if problem:
            msg = f"The project '{self.name}' is not valid."
            raise TrainingError(
                msg, cause=problem, next_step="Correct the label-status matrix, or the project.json."
            )

    @property
    def keys(self) -> tuple[str, ...]:
        """Organ keys in the order of their label values."""
        return self.table.keys

    @property
    def patients(self) -> dict[str, str]:
        """Patient by case name, of the cases of which it is known."""
        return {name: case.patient for name, case in self.cases.items() if case.patient}

    def with_patient(self, cases: Collection[str], patient: str) -> Project:
        """Copy in which some cases belong to one patient; an empty code forgets whose they are.

        Raises:
            TrainingError: There is no such case.
        """
        changed = {name: replace(self.case(name), patient=patient) for name in cases}
        return replace(self, cases={**self.cases, **changed})

    @cached_property
    def catalogue(self) -> Catalogue:
        """MultiOrganSeg's catalogue with the project's own organs.

        Raises:
            OrganError: The name of an own organ is taken, or its key is not valid.
        """
        return with_custom_organs(load_catalogue(), self.custom_organs)

    def image_path(self, case: str) -> Path:
        """Where the image of a case lies.

        Raises:
            TrainingError: There is no such case.
        """
        return self.folder / self.case(case).image

    def labels_path(self, case: str) -> Path | None:
        """Where the label file of a case lies; None when it has none.

        Raises:
            TrainingError: There is no such case.
        """
        labels = self.case(case).labels
        return None if labels is None else self.folder / labels

    def case(self, name: str) -> ProjectCase:
        """Case of a name.

        Raises:
            TrainingError: There is no such case.
        """
        if name not in self.cases:
            msg = f"The project '{self.name}' has no case '{name}'."
            raise TrainingError(
                msg, next_step=f"List them: multiorganseg-train project status {self.folder} --cases"
            )
        return self.cases[name]

    def authors(self, case: str) -> dict[str, Author]:
        """Who drew the annotated organs of a case, by organ key.

        Raises:
            TrainingError: There is no such case.
        """
        from multiorganseg.results.segmentation import Author

        corrected = self.case(case).corrected
        return {
            key: Author.CORRECTED if key in corrected else Author.PEOPLE
            for key in self.matrix.organs_with(case, LabelStatus.ANNOTATED)
        }

    def with_matrix(self, matrix: LabelStatusMatrix) -> Project:
        """Copy with another matrix of the same cases and organs.

        Raises:
            TrainingError: Its cases or organs are others, or it calls a case without a label file labelled.
        """
        return replace(self, matrix=matrix)

    def with_organ(self, organ: str, custom: CustomOrgan | None = None) -> Project:
        """Copy with one more organ, of the next label value and unknown in every case.

        Args:
            organ: Its key.
            custom: Its name and colour where the catalogue does not know it.

        Raises:
            TrainingError: The project has it already.
        """
        if organ in self.table.keys:
            msg = f"The project '{self.name}' has the organ '{organ}' already."
            raise TrainingError(
                msg,
                cause=f"Its label value is {self.table.value(organ)}.",
                next_step="Annotate it, or choose another key for another organ.",
            )
        value = max(self.table.organs, default=0) + 1
        return replace(
            self,
            table=LabelTable({**self.table.organs, value: organ}),
            matrix=self.matrix.with_organ(organ),
            custom_organs={**self.custom_organs, **({} if custom is None else {organ: custom})},
        )

    def _problem(self) -> str:
        if not self.name.strip():
            return "It has no name."
        if self.modality not in MODALITIES:
            return f"Its modality is '{self.modality}', not one of {', '.join(MODALITIES)}."
        if set(self.table.keys) != set(self.matrix.organs):
            differing = sorted(set(self.table.keys) ^ set(self.matrix.organs))
            return f"Only one of label table and label-status matrix has: {', '.join(differing)}."
        if set(self.custom_organs) - set(self.table.keys):
            strangers = sorted(set(self.custom_organs) - set(self.table.keys))
            return f"It describes {', '.join(strangers)}, which its label table lacks."
        if set(self.cases) != set(self.matrix.cases):
            differing = sorted(set(self.cases) ^ set(self.matrix.cases))
            return f"Only one of case list and label-status matrix has: {', '.join(differing)}."
        files = [case.image for case in self.cases.values()]
        files += [case.labels for case in self.cases.values() if case.labels is not None]
        unsafe = [f"'{name}' {problem}" for name in files if (problem := name_problem(name))]
        if unsafe:
            return f"The file name {unsafe[0]}."
        if clashes(files):
            return f"Two cases share a file: {', '.join(clashes(files))}."
        for name, case in self.cases.items():
            strangers = sorted(set(case.corrected) - set(self.table.keys))
            if strangers:
                return (
                    f"The case '{name}' calls {', '.join(strangers)} corrected, which its label table lacks."
                )
            labelled = [organ for organ, status in self.matrix.rows[name].items() if status in LABELLED]
            if labelled and case.labels is None:
                return (
                    f"The case '{name}' has no label file, but {', '.join(labelled)} is said to be labelled."
                )
        return ""

"""Cases of a project, or of a data folder: `images/` and `labels/` with equal file names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from multiorganseg.errors import TrainingError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.projects.file import PROJECT_FILE, load_project
from multiorganseg.projects.matrix import KNOWN, LabelStatus
from multiorganseg.projects.project import Project
from multiorganseg.volumes.names import case_name, is_image_name
from multiorganseg_training.recipe.recipe import DataSpec, Recipe


@dataclass(frozen=True)
class Case:
    """One image and what is known of its labels.

    Attributes:
        name: File name without suffix.
        image: Path of the image.
        labels: Path of the label map on the image's grid; None when nothing is labelled.
        channels: Network channel by label value of the file; other values count as background. A value of an
            organ that is not known stands for the innermost known one around it: a tumour that nobody learns
            is a part of the liver.
        known: Channels of which every voxel is known, annotated or absent.
    """

    name: str
    image: Path
    labels: Path | None
    channels: Mapping[int, int] = field(default_factory=dict)
    known: frozenset[int] = frozenset()


def training_cases(data: Path, recipe: Recipe) -> list[Case]:
    """List the cases of a project or a data folder and what their labels mean to a recipe's network.

    In a project the label-status matrix says what is known, and the project's label table what the values
    mean; the recipe's data.labels names the organs alone. In a data folder the recipe says both. The
    recipe's data.known hides more, except in the validation fold.

    Raises:
        TrainingError: There is no case, an image of a data folder has no labels, or the project has another
            modality or none of the recipe's organs.
        OrganError: The project has an organ that nothing knows.
    """
    said = recipe.data
    if (data / PROJECT_FILE).is_file():
        return _project_cases(load_project(data), said)
    cases, table = [], said.table
    for case in find_cases(data):
        known = _wanted(said, case.name)
        keys = {table.organs[channel] for channel in known}
        parts = {
            channel: table.value(load_catalogue().innermost(key, keys) or key)
            for channel, key in table.organs.items()
        }
        channels = {value: parts[channel] for value, channel in said.channels.items()}
        cases.append(replace(case, channels=channels, known=known))
    return cases


def find_cases(folder: Path) -> list[Case]:
    """List the cases of a data folder in the order of their names, without the meaning of their labels.

    Raises:
        TrainingError: There is no case, an image has no labels, or two images have one name.
    """
    cases, unlabelled = [], []
    for image in sorted((folder / "images").glob("*")):
        if not is_image_name(image.name):
            continue
        name = case_name(image.name)
        labels = folder / "labels" / image.name
        if labels.is_file():
            cases.append(Case(name, image, labels))
        else:
            unlabelled.append(name)
    doubled = sorted(name for name, count in Counter(case.name for case in cases).items() if count > 1)
    if doubled:
        msg = f"The data folder {folder} has several images named {', '.join(doubled)}."
        raise TrainingError(msg, next_step="Give each case one image, and a name of its own.")
    if unlabelled or not cases:
        msg = f"The data folder {folder} is not complete."
        raise TrainingError(
            msg,
            cause=f"No labels for {', '.join(unlabelled)}." if unlabelled else "It holds no image.",
            next_step="Put images into images/ and label maps of the same file name into labels/.",
        )
    return cases


def split_cases(cases: list[Case], said: DataSpec) -> tuple[list[Case], list[Case]]:
    """Divide cases into those that train and those of the validation fold.

    Raises:
        TrainingError: A case that `said` names does not exist, or none is left to train.
    """
    names = {case.name for case in cases}
    chosen = {pattern: _named(names, pattern) for pattern in said.training}
    missing = (set(said.validation) - names) | {pattern for pattern, found in chosen.items() if not found}
    wanted = set().union(*chosen.values()) - set(said.validation)
    train = [case for case in cases if case.name in wanted]
    if missing or not train:
        msg = "The cases that train, or the validation fold, do not fit the data."
        raise TrainingError(
            msg,
            cause=f"Missing: {', '.join(sorted(missing))}." if missing else "No case is left to train.",
            next_step="Correct data.training or data.validation in the recipe, or the data folder.",
        )
    return train, [case for case in cases if case.name in said.validation]


def _named(names: set[str], pattern: str) -> set[str]:
    return {name for name in names if name == pattern or fnmatchcase(name, pattern)}


def _project_cases(project: Project, said: DataSpec) -> list[Case]:
    organs = said.table.keys
    problem = ""
    if not project.cases:
        problem = "The project has no case."
    elif project.modality != said.modality:
        problem = f"The project is of {project.modality}, the recipe of {said.modality}."
    elif not set(organs) & set(project.table.keys):
        problem = f"The project has none of the organs {', '.join(organs)}."
    if problem:
        msg = f"The project '{project.name}' does not fit the recipe."
        raise TrainingError(
            msg, cause=problem, next_step="Add cases or organs to the project, or take another recipe."
        )
    cases = []
    for name in project.cases:
        row = project.matrix.rows[name]
        wanted = _wanted(said, name)
        known = frozenset(said.table.value(key) for key in organs if row.get(key) in KNOWN) & wanted
        annotated = {key for key in organs if row.get(key) is LabelStatus.ANNOTATED}
        drawn = {key for key in annotated if said.table.value(key) in wanted}
        channels = {}
        for value, key in project.table.organs.items():
            seen = load_catalogue().innermost(key, drawn) or (key if key in annotated else None)
            if seen is not None:
                channels[value] = said.table.value(seen)
        files = (project.image_path(name), project.labels_path(name))
        cases.append(Case(name, *files, channels, known))
    return cases


def _wanted(said: DataSpec, name: str) -> frozenset[int]:
    return frozenset(said.table.organs) if name in said.validation else said.known_channels(name)

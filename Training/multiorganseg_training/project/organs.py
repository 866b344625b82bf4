"""Organs of a project, its own ones included, and which of them a label of a dataset means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import OrganError, TrainingError
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.projects.file import load_project, project_lock, save_project
from multiorganseg.projects.project import Project


def project_catalogue(project: Project, catalogue: Catalogue | None = None) -> Catalogue:
    """Return a catalogue that knows the project's own organs too.

    Args:
        project: Whose organs.
        catalogue: Of the others; by default MultiOrganSeg's own.

    Raises:
        OrganError: An own organ's key or name is not valid, or the name is taken.
    """
    return with_custom_organs(catalogue or load_catalogue(), project.custom_organs)


def add_organ(folder: Path, key: str, custom: CustomOrgan | None = None) -> Project:
    """Add an organ with the next label value, unknown in every case, and save the project.

    Args:
        folder: Of the project.
        key: Of the organ.
        custom: Name and colour of an organ that the catalogue does not know.

    Returns:
        The project with the organ.

    Raises:
        OrganError: The catalogue lacks the key and nothing is said of the organ, or the catalogue has it and
            something is; or an own organ's key or name is not valid, or taken.
        TrainingError: The project has the organ, or is in use.
        ResourceError: The project cannot be written.
    """
    catalogue = load_catalogue()
    if custom is None:
        catalogue.get(key)
    else:
        _refuse_taken(key, custom, catalogue)
    with project_lock(folder):
        project = load_project(folder)
        if custom is not None:
            _refuse_taken(key, custom, project_catalogue(project, catalogue))
        grown = project.with_organ(key, custom)
        if custom is not None:
            _require_valid(grown, key, catalogue)
        save_project(grown)
    return grown


def _require_valid(project: Project, key: str, catalogue: Catalogue) -> None:
    try:
        project_catalogue(project, catalogue)
    except OrganError as error:
        msg = f"The organ '{key}' cannot be added."
        raise OrganError(
            msg, cause=error.cause or error.problem, next_step="Choose another key, name or colour."
        ) from error


def _refuse_taken(key: str, custom: CustomOrgan, catalogue: Catalogue) -> None:
    names = {organ.name.casefold(): organ.key for organ in catalogue.organs.values()}
    holder = key if key in catalogue.organs else names.get(custom.name.strip().casefold())
    if holder is not None:
        msg = f"The organ '{custom.name}' is known already."
        raise OrganError(
            msg,
            cause=f"It has the key '{holder}'.",
            next_step=f"Add '{holder}' without a name and colour, or choose another key and name.",
        )


def suggested_organ(name: str, project: Project) -> str:
    """Return the key of the project's organ with a label's name, in any order of words; else nothing.

    A tumour in an organ is not the organ, and is never suggested as such.
    """
    catalogue = project_catalogue(project)
    wanted = _words(name)
    for key in project.table.keys:
        if wanted and wanted in (_words(key), _words(catalogue.get(key).name)):
            return key
    return ""


def _words(name: str) -> tuple[str, ...]:
    words = re.findall(r"[^\W_]+", name.casefold())
    return tuple(sorted(words))


BACKGROUND = "background"
"""On the right side of a rule: the label counts as no organ."""

_TUMOUR_WORDS = frozenset(
    {"cancer", "carcinoma", "lesion", "mass", "masses", "tumor", "tumors", "tumour", "tumours"}
)


def map_labels(
    names: Mapping[int, str], rules: Mapping[str, str], catalogue: Catalogue
) -> dict[int, str | None]:
    """Return each label value of a dataset its organ key.

    A tumour is never given to its organ unasked: "cancer=liver" makes it part of the liver,
    "cancer=liver_tumor" an organ of its own and "cancer=background" no organ. Several labels may become one
    organ. A label that needs no rule is one that is spelt exactly as an organ key.

    Args:
        names: Name by label value, without background.
        rules: Organ key or "background" by label name, or by label value written as text.
        catalogue: Knows the organ keys.

    Returns:
        Organ key by label value; None for labels that count as background.

    Raises:
        TrainingError: A label has no rule or two, or a rule names no label.
        OrganError: A rule's organ is not in the catalogue; the error names keys that look alike.
    """
    by_value: dict[int, str] = {}
    for left, key in rules.items():
        for value in _values(left, names):
            if by_value.setdefault(value, key) != key:
                msg = f"The label '{names[value]}' is given to {by_value[value]} and to {key}."
                raise TrainingError(msg, next_step="Keep one of the two rules.")
    for key in by_value.values():
        if key != BACKGROUND:
            catalogue.get(key)
    by_value = {**{value: name for value, name in names.items() if name in catalogue.organs}, **by_value}
    missing = {value: name for value, name in names.items() if value not in by_value}
    if missing:
        msg = "Labels of the dataset are not mapped to organs."
        keys = [key for key in by_value.values() if key != BACKGROUND]
        raise TrainingError(
            msg,
            cause=f"Without a rule: {', '.join(f'{name} ({value})' for value, name in missing.items())}.",
            next_step="Add a rule for each, such as "
            + "; ".join(" or ".join(_suggested(name, keys, catalogue)) for name in missing.values())
            + ".",
        )
    return {value: None if by_value[value] == BACKGROUND else by_value[value] for value in names}


def _values(left: str, names: Mapping[int, str]) -> list[int]:
    found = [value for value, name in names.items() if name.casefold() == left.strip().casefold()]
    if not found and left.strip().isdecimal() and int(left) in names:
        found = [int(left)]
    if not found:
        msg = f"The dataset has no label '{left}'."
        known = ", ".join(f"{name} ({value})" for value, name in names.items())
        raise TrainingError(msg, next_step=f"It has: {known}.")
    return found


def _suggested(name: str, mapped: list[str], catalogue: Catalogue) -> list[str]:
    keys = [organ.key for organ in catalogue.search(name)[:3]] if name.strip() else []
    if _TUMOUR_WORDS & set(re.findall(r"[a-z]+", name.casefold())):
        tumours = [organ.key for organ in catalogue.search("tumor") if organ.within in mapped]
        keys = [*mapped[:3], *tumours[:3], *keys]
    return [f"'{name}={key}'" for key in dict.fromkeys([*keys, BACKGROUND])]

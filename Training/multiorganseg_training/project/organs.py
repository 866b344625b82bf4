"""Organs of a project, its own ones included."""

from __future__ import annotations

from pathlib import Path

from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import OrganError
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg_training.project.lock import project_lock
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.project_json import load_project, save_project


def project_catalogue(project: Project, catalogue: Catalogue | None = None) -> Catalogue:
    """Give a catalogue that knows the project's own organs too.

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

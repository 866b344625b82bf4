"""Which organ of a project a label of a dataset seems to be."""

from __future__ import annotations

import re

from multiorganseg_training.project.organs import project_catalogue
from multiorganseg_training.project.project import Project


def suggested_organ(name: str, project: Project) -> str:
    """Give the key of the project's organ that has a label's name, in whichever order of words; else nothing.

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

"""A project's state for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from multiorganseg.bundles.bundle import load_bundle
from multiorganseg.bundles.folders import visible_folders
from multiorganseg.errors import BundleError
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.projects.project import Project
from multiorganseg.projects.runs import run_states
from multiorganseg_training.project.organs import project_catalogue

BUNDLES = "bundles"
STATE_VERSION = 1


def project_state(project: Project) -> dict[str, Any]:
    """Describe a project, its runs and its published bundles as JSON values; paths are absolute.

    Returns:
        An object with these fields; more may come, none goes without another `schema_version`:

        - schema_version: 1
        - project: {"name", "folder", "modality": "CT" or "MR"}
        - organs: by label value, {"key", "name", "color": [red, green, blue] in 0…255, "value": label value,
          "custom": whether the catalogue lacks it, "cases": number of cases by status}
        - cases: in the project's order, {"name", "image", "labels": path or null, "source": name of a dataset
          or "", "patient": code or "", "status": status by organ key}; the statuses are annotated, absent,
          unknown and pseudo
        - runs: by name, {"name", "folder", "events": path of its events, "state": "running" (its lock is
          held), "paused" (on request or by Ctrl-C), "finished" or "failed", "pause_requested": bool,
          "started", "progress", "metric": content of the last event of this kind without "event", or null;
          a metric has its numbers by organ key in "values",
          "failure": {"problem", "cause", "next_step"} if failed, else null; a run that was killed is failed;
          "accepted": true, false, or null before the acceptance check}; each but a finished one goes on
          with the same command
        - bundles: by folder name, {"folder", "name", "version", "organs": keys, "problem": null}, or
          {"folder", "name": null, "version": null, "organs": [], "problem": text} for a damaged one

    Raises:
        OrganError: The project has an organ that nothing knows.
    """
    catalogue = project_catalogue(project)
    organs = [
        {
            "key": key,
            "name": catalogue.get(key).name,
            "color": list(catalogue.get(key).color),
            "value": value,
            "custom": key in project.custom_organs,
            "cases": {status.value: project.matrix.count(key, status) for status in LabelStatus},
        }
        for value, key in project.table.organs.items()
    ]
    folder = project.folder.absolute()
    return {
        "schema_version": STATE_VERSION,
        "project": {"name": project.name, "folder": str(folder), "modality": project.modality},
        "organs": organs,
        "cases": [
            {
                "name": case.name,
                "image": str(folder / case.image),
                "labels": None if case.labels is None else str(folder / case.labels),
                "source": case.source,
                "patient": case.patient,
                "status": {key: status.value for key, status in project.matrix.rows[case.name].items()},
            }
            for case in project.cases.values()
        ],
        "runs": run_states(folder),
        "bundles": [_bundle(entry) for entry in visible_folders(folder / BUNDLES)],
    }


def _bundle(folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = {
        "folder": str(folder),
        "name": None,
        "version": None,
        "organs": [],
        "problem": None,
    }
    try:
        metadata = load_bundle(folder).metadata
    except BundleError as error:
        return {**about, "problem": str(error)}
    return {
        **about,
        "name": metadata.name,
        "version": metadata.version,
        "organs": list(metadata.labels.keys),
    }

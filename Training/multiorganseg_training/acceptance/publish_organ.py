"""From a run that passed the acceptance check to a bundle in use, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multiorganseg.bundles import (
    Bundle,
    find_bundle,
    install_folder,
    load_bundle,
    remove_bundle,
    user_models_dir,
)
from multiorganseg.bundles.folders import delete_folder, visible_folders
from multiorganseg.bundles.metadata import NAME_PATTERN
from multiorganseg.errors import MultiOrganSegError, TrainingError
from multiorganseg.folders import resources_dir
from multiorganseg.projects.acceptance import AcceptanceReport, load_acceptance
from multiorganseg.projects.project import Project
from multiorganseg_training.acceptance.card import added_organ_card
from multiorganseg_training.acceptance.check import CANDIDATE
from multiorganseg_training.acceptance.publish import finish_bundle, holds_network_of

BUNDLES = "bundles"
FIRST_VERSION = "1.0.0"


@dataclass(frozen=True)
class PublishOptions:
    """What the author asks for.

    Attributes:
        name: Of the bundle; empty for that of the base with what was learned.
        version: Three numbers; empty to count up.
        force: Why to publish although the acceptance check did not pass; empty to refuse then.
    """

    name: str = ""
    version: str = ""
    force: str = ""


@dataclass(frozen=True)
class Published:
    """What publishing wrote.

    Attributes:
        kept: The bundle in the project.
        installed: Its copy in the user's folder.
    """

    kept: Bundle
    installed: Bundle


def publish_organ(project: Project, run: Path, options: PublishOptions) -> Published:
    """Write the network that the acceptance check judged into `bundles/` of its project and install it.

    The bundle carries the acceptance check's figures of those organs alone that were measured against
    annotations. The base is not touched. When the installation fails, nothing is left in the project either.

    Args:
        project: That the run belongs to; the caller holds its lock.
        run: Folder of a run with an acceptance.json.
        options: What the author asks for.

    Raises:
        TrainingError: The acceptance check is missing, did not pass or judged other weights, or the name or
            version is taken.
        BundleError: The bundle does not verify.
        ResourceError: A folder cannot be written.
    """
    acceptance, candidate = _judged(project, run, options.force)
    name = options.name or candidate.metadata.name
    _require_free_name(project, name, acceptance)
    version = options.version or next_version(project, name)
    _require_new_version(project, name, version)
    metadata = replace(
        candidate.metadata,
        name=name,
        version=version,
        metrics=_metrics(acceptance),
        training={**candidate.metadata.training, "acceptance": _summary(acceptance, options.force)},
    )
    folder = project.folder / BUNDLES / f"{name}-{version}"
    kept = finish_bundle(candidate, folder, metadata, added_organ_card(metadata, acceptance, options.force))
    try:
        installed = install_folder(kept.folder)
    except MultiOrganSegError:
        delete_folder(kept.folder)
        raise
    return Published(kept, installed)


def roll_back(project: Project, name: str) -> Bundle | None:
    """Take the installed version of a published bundle out of use.

    Args:
        project: That published it; its `bundles/` stays as it is.
        name: Of the bundle.

    Returns:
        The version before, which is in use again; None when there is none, so that the base is.

    Raises:
        TrainingError: This project did not publish what is installed under that name.
        BundleError: Nothing of that name is installed, or the version before is damaged.
        ResourceError: The folder cannot be written.
    """
    bundled = resources_dir() / "Models"
    if name in {folder.name for folder in visible_folders(bundled)}:
        msg = f"The bundle {name} came with MultiOrganSeg and is not rolled back."
        raise TrainingError(msg, next_step="Name a bundle that this project published.")
    installed = load_bundle(user_models_dir() / name)
    versions = published_versions(project, name)
    if not any(version.digest == installed.digest for version in versions):
        msg = f"This project did not publish {name} {installed.metadata.version}."
        raise TrainingError(
            msg,
            cause="What is installed under that name comes from elsewhere.",
            next_step="Remove it with `multiorganseg models remove` if that is what you want.",
        )
    before = [
        version
        for version in versions
        if version.metadata.version_numbers < installed.metadata.version_numbers
    ]
    if not before:
        remove_bundle(name)
        return None
    return install_folder(before[-1].folder, replace=True)


def published_versions(project: Project, name: str) -> list[Bundle]:
    """Load what a project published under a name, the oldest version first.

    Raises:
        BundleError: One of them is damaged.
    """
    found = [load_bundle(folder) for folder in _published_folders(project, name)]
    return sorted(found, key=lambda bundle: bundle.metadata.version_numbers)


def next_version(project: Project, name: str) -> str:
    """Count up the second number of the highest version that the project published or the user installed."""
    numbers = [_numbers(folder, name) for folder in _published_folders(project, name)]
    installed = user_models_dir() / name
    if installed.is_dir():
        numbers.append(load_bundle(installed).metadata.version_numbers)
    if not numbers:
        return FIRST_VERSION
    first, second, _ = max(numbers)
    return f"{first}.{second + 1}.0"


def _published_folders(project: Project, name: str) -> list[Path]:
    return [
        folder
        for folder in visible_folders(project.folder / BUNDLES)
        if re.fullmatch(re.escape(name) + r"-\d+\.\d+\.\d+", folder.name)
    ]


def _numbers(folder: Path, name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.name.removeprefix(f"{name}-").split("."))


def _judged(project: Project, run: Path, force: str) -> tuple[AcceptanceReport, Bundle]:
    acceptance = load_acceptance(run)
    if acceptance is None:
        msg = f"The run {run.name} has not been through the acceptance check."
        step = f"Judge it first: multiorganseg-train acceptance {run} --project {project.folder}"
        raise TrainingError(msg, next_step=step)
    if not acceptance.passed and not force.strip():
        short = {key: organ for key, organ in acceptance.organs.items() if organ.verdict.value != "pass"}
        msg = f"The run {run.name} did not pass the acceptance check."
        raise TrainingError(
            msg,
            cause="\n".join(f"{key}: {organ.verdict.value}. {organ.why}" for key, organ in short.items()),
            next_step=f"Read {run / 'report.md'}; --force with a reason publishes it all the same.",
        )
    candidate = load_bundle(run / CANDIDATE)
    if not holds_network_of(candidate, run):
        msg = f"The run {run.name} was trained further since it went through the acceptance check."
        step = f"Repeat it: multiorganseg-train acceptance {run} --project {project.folder}"
        raise TrainingError(msg, next_step=step)
    return acceptance, candidate


def _require_free_name(project: Project, name: str, acceptance: AcceptanceReport) -> None:
    problem = ""
    bundled = {folder.name for folder in visible_folders(resources_dir() / "Models")}
    if not NAME_PATTERN.fullmatch(name):
        problem = "Names are 1–64 lower-case letters, digits, '.', '_' and '-'."
    elif name == acceptance.base_name or name in bundled:
        problem = "A base bundle, or one that came with MultiOrganSeg, keeps its name to itself."
    elif (user_models_dir() / name).exists():
        installed = find_bundle(name)
        if not any(version.digest == installed.digest for version in published_versions(project, name)):
            problem = "Another bundle of that name is installed, and this project did not publish it."
    if problem:
        msg = f"The bundle cannot be called '{name}'."
        raise TrainingError(msg, cause=problem, next_step="Choose another one with --name.")


def _require_new_version(project: Project, name: str, version: str) -> None:
    if not re.fullmatch(r"\d{1,6}\.\d{1,6}\.\d{1,6}", version):
        msg = f"'{version}' is no version."
        raise TrainingError(msg, next_step="Write three numbers, such as 1.2.0.")
    numbers = tuple(int(part) for part in version.split("."))
    previous = [_numbers(folder, name) for folder in _published_folders(project, name)]
    if previous and numbers <= max(previous):
        msg = f"Version {version} of {name} is not newer than what the project published."
        raise TrainingError(
            msg,
            cause=f"The newest is {'.'.join(map(str, max(previous)))}.",
            next_step="Leave --version away to count up.",
        )


def _metrics(acceptance: AcceptanceReport) -> dict[str, dict[str, float]]:
    return {
        key: {"dice": round(organ.dice_new, 4), "nsd": round(organ.nsd_new, 4)}
        for key, organ in acceptance.organs.items()
        if organ.reference == "annotated" and organ.dice_new is not None and organ.nsd_new is not None
    }


def _summary(acceptance: AcceptanceReport, force: str) -> Mapping[str, Any]:
    return {
        "passed": acceptance.passed,
        "how": acceptance.how,
        "cases": len(acceptance.cases),
        "margin": acceptance.margin,
        "floor": acceptance.floor,
        "training_cases": dict(acceptance.training_cases),
        "organs": {
            key: {
                "verdict": organ.verdict.value,
                "reference": organ.reference,
                "difference": organ.difference,
            }
            for key, organ in acceptance.organs.items()
        },
        **({} if acceptance.passed else {"published_all_the_same": force.strip()}),
    }

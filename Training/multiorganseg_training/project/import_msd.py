"""Import a folder of the Medical Segmentation Decathlon as a project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from multiorganseg.progress import Progress
from multiorganseg_training.project.import_dataset import import_dataset
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.read_msd import read_msd


def import_msd(
    folder: Path,
    target: Path,
    rules: Mapping[str, str],
    *,
    modality: str | None = None,
    unlabelled: bool = False,
    name: str = "",
    hardlink: bool = False,
    progress: Progress | None = None,
) -> Project:
    """Import a Decathlon folder; see `read_msd` and `import_dataset` for arguments and errors."""
    dataset = read_msd(folder, modality=modality, unlabelled=unlabelled)
    return import_dataset(dataset, target, rules, name=name, hardlink=hardlink, progress=progress)

"""Import an nnU-Net v2 dataset folder as a project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from multiorganseg.progress import Progress
from multiorganseg_training.project.import_dataset import import_dataset
from multiorganseg_training.project.project import Project
from multiorganseg_training.project.read_nnunet import read_nnunet


def import_nnunet(
    folder: Path,
    target: Path,
    rules: Mapping[str, str],
    *,
    channel: int | None = None,
    modality: str | None = None,
    unlabelled: bool = False,
    name: str = "",
    hardlink: bool = False,
    progress: Progress | None = None,
) -> Project:
    """Import an nnU-Net v2 folder; see `read_nnunet` and `import_dataset` for arguments and errors."""
    dataset = read_nnunet(folder, channel=channel, modality=modality, unlabelled=unlabelled)
    return import_dataset(dataset, target, rules, name=name, hardlink=hardlink, progress=progress)

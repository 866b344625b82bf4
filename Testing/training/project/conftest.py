from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.read import read_labels
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.project import Project, import_folder

SHAPE = (6, 8, 10)
AFFINE = np.array([[1.5, 0.0, 0.0, -7.0], [0.0, 1.5, 0.2, 3.0], [0.0, 0.0, 2.5, 40.0], [0.0, 0.0, 0.0, 1.0]])
MSD_LABELS = {"0": "background", "1": "liver", "2": "cancer"}


def write_pair(image: Path, labels: Path | None, values: tuple[int, ...], seed: int = 0) -> None:
    """Write an image and a label map in which each value fills one row of two planes: 20 voxels."""
    generator = np.random.default_rng(seed)
    write_volume(Volume(generator.integers(-1000, 1000, SHAPE).astype(np.int16), AFFINE), image)
    if labels is not None:
        voxels = np.zeros(SHAPE, np.uint16)
        for row, value in enumerate(values):
            voxels[2:4, row] = value
        write_volume(Volume(voxels, AFFINE), labels)


@pytest.fixture
def write_case() -> Callable[..., None]:
    return write_pair


@pytest.fixture
def voxels_of() -> Callable[[Project, str], NDArray]:
    """Read the label voxels of a case of a project."""

    def read(project: Project, case: str) -> NDArray:
        path = project.labels_path(case)
        assert path is not None
        return read_labels(path).voxels

    return read


@pytest.fixture
def make_msd(tmp_path: Path) -> Callable[..., Path]:
    """Write a Decathlon folder; `cases` gives the label values of each case."""

    def make(
        name: str = "Task03_Liver",
        labels: Mapping[str, str] = MSD_LABELS,
        cases: Mapping[str, tuple[int, ...]] | None = None,
        **changes: Any,
    ) -> Path:
        folder = tmp_path / name
        cases = {"liver_0": (1, 2), "liver_1": (1,)} if cases is None else cases
        training = []
        for seed, (case, values) in enumerate(cases.items()):
            pair = (f"./imagesTr/{case}.nii.gz", f"./labelsTr/{case}.nii.gz")
            write_pair(folder / pair[0], folder / pair[1], values, seed)
            training.append(dict(zip(("image", "label"), pair, strict=True)))
        write_pair(folder / "imagesTs" / "liver_9.nii.gz", None, (), 9)
        (folder / "imagesTr" / "._liver_0.nii.gz").write_bytes(b"left by macOS")
        description = {
            "name": name,
            "licence": "CC-BY-SA 4.0",
            "reference": "Somewhere",
            "modality": {"0": "CT"},
            "labels": dict(labels),
            "numTraining": len(training),
            "training": training,
            "test": ["./imagesTs/liver_9.nii.gz"],
            **changes,
        }
        (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def make_nnunet(tmp_path: Path) -> Callable[..., Path]:
    """Write an nnU-Net v2 folder; `cases` gives the label values of each case, None for no label file."""

    def make(
        name: str = "Dataset201_Abdomen",
        labels: Mapping[str, Any] | None = None,
        cases: Mapping[str, tuple[int, ...] | None] | None = None,
        **changes: Any,
    ) -> Path:
        folder = tmp_path / "nnUNet_raw" / name
        (folder / "labelsTr").mkdir(parents=True)
        cases = {"a": (1, 2), "b": (2,)} if cases is None else cases
        for seed, (case, values) in enumerate(cases.items()):
            target = None if values is None else folder / "labelsTr" / f"{case}.nii.gz"
            write_pair(folder / "imagesTr" / f"{case}_0000.nii.gz", target, values or (), seed + 20)
        description = {
            "channel_names": {"0": "CT"},
            "labels": labels or {"background": 0, "spleen": 1, "left kidney": 2},
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
            **changes,
        }
        (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Project]:
    """Make a project; `cases` gives the label values of each case, None for no label file."""

    def make(
        name: str,
        organs: Mapping[int, str],
        cases: Mapping[str, tuple[int, ...] | None],
        suffix: str = ".nii.gz",
    ) -> Project:
        data = tmp_path / f"{name}-data"
        for seed, (case, values) in enumerate(cases.items()):
            labels = None if values is None else data / "labels" / f"{case}{suffix}"
            write_pair(data / "images" / f"{case}{suffix}", labels, values or (), seed)
        return import_folder(data, tmp_path / name, LabelTable(organs), name=name)

    return make

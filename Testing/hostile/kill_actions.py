"""What is killed at every step: installing, adding, annotating, saving and publishing, in small."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from multiorganseg import atomic
from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles import (
    Metadata,
    Preprocessing,
    install_bundle,
    load_bundle,
    pack_bundle,
    read_weights,
    write_bundle,
)
from multiorganseg.bundles.folders import visible_folders
from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.write import write_results
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.project import (
    LabelStatus,
    PartialCases,
    add_case,
    add_organ,
    create_project,
    export_nnunet,
    load_project,
    merge_projects,
    save_annotation,
    tidy,
)
from multiorganseg_training.project.read_dataset import read_nnunet
from multiorganseg_training.recipe.file import recipe_from_dict, recipe_to_dict
from multiorganseg_training.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

SHAPE = (4, 6, 8)
OLD, NEW = "1.0.0", "1.1.0"
RECIPE = {
    "name": "tiny-ct",
    "data": {"labels": {"1": "liver"}},
    "network": {"arguments": {"filters": [8, 8]}, "patch_shape": [8, 16, 16]},
}


@dataclass(frozen=True)
class Killed:
    """One action; see `kills.kill_everywhere`."""

    name: str
    make: Callable[[Path], object]
    act: Callable[[Path], object]
    check: Callable[[Path], object]


def _volume(seed: int) -> Volume:
    return Volume(np.random.default_rng(seed).integers(-900, 900, SHAPE).astype(np.int16), np.eye(4))


def _labels() -> Volume:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1:3, 2:4] = 1
    return Volume(voxels, np.eye(4))


def _write(folder: Path, version: str) -> None:
    metadata = Metadata(
        schema_version=1,
        name="tiny-ct",
        version=version,
        description="For kills.",
        modality="CT",
        architecture="strided_dynunet",
        arguments={},
        activation="softmax",
        labels=LabelTable.numbered(("liver",)),
        preprocessing=Preprocessing((3.0, 2.0, 2.0), "window", (-160.0, 240.0)),
        patch_shape=(16, 32, 32),
        feature_channels=8,
        license="Apache-2.0",
    )
    weights = {"weight": np.full((3, 2), float(version[2]), np.float32)}
    write_bundle(folder, metadata, weights, "# Card", "Licence", replace=True)


def _packed(folder: Path) -> None:
    for version in (OLD, NEW):
        _write(folder / version / "tiny-ct", version)
        pack_bundle(folder / version / "tiny-ct", folder / f"{version}.zip")
    install_bundle(folder / f"{OLD}.zip", folder / "models")


def _install(folder: Path) -> None:
    install_bundle(folder / f"{NEW}.zip", folder / "models", replace=True)


def _install_in_two_steps(folder: Path) -> None:
    """As on systems that cannot exchange two folders; in a child, so that nothing must be put back."""
    atomic._exchange = lambda *_: False
    _install(folder)


def _check_bundle(folder: Path) -> None:
    (place,) = visible_folders(folder / "models")
    bundle = load_bundle(place)
    assert read_weights(bundle)["weight"][0, 0] == float(bundle.metadata.version[2])


def _project(folder: Path) -> None:
    create_project(folder / "p", "p", LabelTable({1: "liver", 2: "spleen"}))
    add_case(folder / "p", "a", _volume(1), _labels(), {"liver": LabelStatus.ANNOTATED})


def _add(folder: Path) -> None:
    if "b" not in load_project(folder / "p").cases:
        add_case(folder / "p", "b", _volume(2), _labels(), {"liver": LabelStatus.ANNOTATED})
    assert tidy(folder / "p") == []


def _annotate(folder: Path) -> None:
    spleen = np.zeros(SHAPE, np.uint8)
    spleen[0, 0] = 2
    save_annotation(folder / "p", "a", spleen, {"spleen": LabelStatus.ANNOTATED})


def _check_project(folder: Path) -> None:
    project = load_project(folder / "p")
    for name in project.cases:
        read_volume(project.image_path(name))
        labels = read_labels(project.labels_path(name)).voxels
        assert np.count_nonzero(labels == 1) == 32
        annotated = project.matrix.status(name, "spleen") is LabelStatus.ANNOTATED
        assert not annotated or np.count_nonzero(labels == 2) == SHAPE[2], "annotated, and nothing drawn"


def _save(folder: Path, iteration: int) -> None:
    state = {"weight": torch.full((4,), float(iteration))}
    optimiser = {"state": {}, "param_groups": []}
    generator = dict(np.random.default_rng(iteration).bit_generator.state)
    recipe = recipe_to_dict(recipe_from_dict(RECIPE))
    save_checkpoint(Checkpoint(iteration, recipe, state, state, 1, {}, optimiser, generator), folder)


def _check_checkpoint(folder: Path) -> None:
    loaded = load_checkpoint(folder)
    assert loaded is not None
    assert float(loaded.network["weight"][0]) == loaded.iteration


def _results(folder: Path) -> None:
    write_volume(_volume(3), folder / "out" / "ct.nii.gz")
    write_text_atomically(folder / "out" / "ct.csv", "organ\n")


def _check_results(folder: Path) -> None:
    if (folder / "out" / "ct.nii.gz").exists():
        read_volume(folder / "out" / "ct.nii.gz")


def _add_organ(folder: Path) -> None:
    if "kidney_left" not in load_project(folder / "p").table.keys:
        add_organ(folder / "p", "kidney_left")
    assert tidy(folder / "p") == []


def _two_projects(folder: Path) -> None:
    _project(folder)
    create_project(folder / "q", "q", LabelTable({1: "spleen"}))
    add_case(folder / "q", "b", _volume(2), _labels(), {"spleen": LabelStatus.ANNOTATED})


def _merge(folder: Path) -> None:
    with suppress(TrainingError):
        merge_projects([load_project(folder / name) for name in ("p", "q")], folder / "merged", "merged")


def _check_merged(folder: Path) -> None:
    _check_project(folder)
    if (folder / "merged").exists():
        merged = load_project(folder / "merged")
        assert set(merged.cases) == {"a", "b"}
        for name in merged.cases:
            assert np.count_nonzero(read_labels(merged.labels_path(name)).voxels) == 32


def _export(folder: Path) -> None:
    with suppress(TrainingError):
        export_nnunet(load_project(folder / "p"), folder / "Dataset001_Liver", PartialCases.IGNORE)


def _check_exported(folder: Path) -> None:
    _check_project(folder)
    target = folder / "Dataset001_Liver"
    if target.exists():
        (case,) = read_nnunet(target).cases
        read_volume(case.image)
        assert np.count_nonzero(read_labels(case.labels).voxels == 1) == 32


def _segment(folder: Path) -> None:
    (folder / "out").mkdir(exist_ok=True)
    volume = replace(_volume(3), source=str(folder / "ct.nii.gz"))
    made = Segmentation(_labels().voxels, volume.affine, LabelTable({1: "liver"}))
    formats = {"seg.nrrd", "nii.gz", "csv", "json"}
    write_results(made, volume, folder / "out", formats=formats, preview=False)


def _check_segmented(folder: Path) -> None:
    for file in (folder / "out").glob("[!.]*"):
        if file.name.endswith((".nrrd", ".nii.gz")):
            assert np.count_nonzero(read_labels(file).voxels == 1) == 32
        else:
            assert file.read_bytes()


def _check_text(folder: Path) -> None:
    assert (folder / "table.csv").read_text(encoding="utf-8") in ("old", "new")


ACTIONS = (
    Killed(
        "file",
        lambda folder: write_text_atomically(folder / "table.csv", "old"),
        lambda folder: write_text_atomically(folder / "table.csv", "new"),
        _check_text,
    ),
    Killed("install", _packed, _install, _check_bundle),
    Killed("install in two steps", _packed, _install_in_two_steps, _check_bundle),
    Killed(
        "publish",
        lambda folder: _write(folder / "models" / "tiny-ct", OLD),
        lambda folder: _write(folder / "models" / "tiny-ct", NEW),
        _check_bundle,
    ),
    Killed("add a case", _project, _add, _check_project),
    Killed("annotate", _project, _annotate, _check_project),
    Killed("add an organ", _project, _add_organ, _check_project),
    Killed("merge", _two_projects, _merge, _check_merged),
    Killed("export to nnU-Net", _project, _export, _check_exported),
    Killed("outputs of a segmentation", lambda folder: None, _segment, _check_segmented),
    Killed("checkpoint", lambda folder: _save(folder, 1), lambda folder: _save(folder, 2), _check_checkpoint),
    Killed("results", lambda folder: None, _results, _check_results),
)

"""Small projects for the tests of adding organs, and the trainer that only pretends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

FAKE = Path(__file__).resolve().with_name("fake_trainer.py")
SHAPE = (12, 20, 24)


def write_project(folder: Path, statuses: dict[str, dict[str, list[str]]], organs: tuple[str, ...]) -> Path:
    """Write a project with a small image a case; label files are made where something is annotated."""
    from multiorganseg.volumes import Volume, write_volume

    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    cases = {}
    for number, (name, status) in enumerate(statuses.items()):
        image = np.full(SHAPE, 40 + number, np.int16)
        write_volume(Volume(image, affine, name), folder / "images" / f"{name}.nii.gz")
        labels = None
        if status.get("annotated"):
            labels = f"labels/{name}.nii.gz"
            drawn = np.zeros(SHAPE, np.uint8)
            for place, key in enumerate(status["annotated"]):
                drawn[2:5, 3 + 4 * place : 6 + 4 * place, 4:9] = organs.index(key) + 1
            write_volume(Volume(drawn, affine, name), folder / labels)
        cases[name] = {
            **{"image": f"images/{name}.nii.gz", "labels": labels, "source": ""},
            "status": status,
        }
    data = {
        **{"schema_version": 1, "name": folder.name, "modality": "CT", "sources": {}},
        "labels": {str(value): key for value, key in enumerate(organs, start=1)},
        "cases": cases,
    }
    folder.mkdir(exist_ok=True)
    (folder / "project.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def write_nnunet(folder: Path, labels: dict[str, int], case: str = "other_1") -> Path:
    """Write an nnU-Net dataset of one case in which each label has voxels."""
    from multiorganseg.volumes import Volume, write_volume

    affine, drawn = np.diag([-2.0, -2.0, 3.0, 1.0]), np.zeros(SHAPE, np.uint8)
    for place, value in enumerate(labels.values()):
        drawn[2:5, 3 + 4 * place : 6 + 4 * place, 4:9] = value
    write_volume(Volume(np.zeros(SHAPE, np.int16), affine), folder / "imagesTr" / f"{case}_0000.nii.gz")
    write_volume(Volume(drawn, affine), folder / "labelsTr" / f"{case}.nii.gz")
    about = {"channel_names": {"0": "CT"}, "numTraining": 1, "file_ending": ".nii.gz"}
    data = {**about, "labels": {"background": 0, **labels}}
    (folder / "dataset.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def write_measured_run(project: Path, organ: str, cases: int, dice: float) -> Path:
    """Write a run with an acceptance check: an organ learned from so many cases, with this Dice."""
    from fake_trainer import acceptance_of, entry

    run = project / "runs" / f"run_{cases}"
    run.mkdir(parents=True)
    acceptance = {**acceptance_of(run, ["a", "b"], {organ: cases}), "passed": True}
    organs = {organ: {**entry("new", None, dice, "pass"), "picture": None}}
    (run / "acceptance.json").write_text(json.dumps({**acceptance, "organs": organs}), encoding="utf-8")
    (run / "events.jsonl").write_text('{"event": "finished", "time": 0}\n', encoding="utf-8")
    return run


def use_fake_trainer(monkeypatch: Any) -> Any:
    """Let the panel start the pretending trainer; gives a function that plans what it does."""
    from MultiOrganSegLib.add_organ import trainer

    monkeypatch.setattr(
        trainer,
        "trainer_command",
        lambda arguments: [sys.executable, str(FAKE), trainer.PACKAGE, *arguments],
    )

    def plan(**behaviour: Any) -> None:
        monkeypatch.setenv("MULTIORGANSEG_FAKE_TRAINER", json.dumps(behaviour))

    plan()
    return plan

"""Small projects for the tests of teaching, and the trainer that only pretends."""

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
    (folder / "project.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def use_fake_trainer(monkeypatch: Any) -> Any:
    """Let the panel start the pretending trainer; gives a function that plans what it does."""
    from MultiOrganSegLib.teach import trainer

    monkeypatch.setattr(
        trainer,
        "trainer_command",
        lambda arguments: [sys.executable, str(FAKE), trainer.PACKAGE, *arguments],
    )

    def plan(**behaviour: Any) -> None:
        monkeypatch.setenv("MULTIORGANSEG_FAKE_TRAINER", json.dumps(behaviour))

    plan()
    return plan

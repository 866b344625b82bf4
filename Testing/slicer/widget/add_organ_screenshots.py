"""Pictures of the section Add organ: real project commands and phantoms, a training that only pretends."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

SECTION = "addOrganSection"
SECONDS = 600
CASES = 5


class _Changes:
    """What the tests' `monkeypatch` does, for the life of this process."""

    def setattr(self, target: Any, name: str, value: Any) -> None:
        setattr(target, name, value)

    def setenv(self, name: str, value: str) -> None:
        os.environ[name] = value


def take_add_organ(host: Any, panel: Any, camera: Any, work: Path) -> None:
    """Walk from a new project to a published model, as the guide does.

    Args:
        host: The stand-in application.
        panel: The module's panel.
        camera: Saves pictures, see `screenshots`.
        work: An empty folder for the project.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import slicer
    from add_organ_project import use_fake_trainer, write_measured_run, write_nnunet

    plan = use_fake_trainer(_Changes())
    panel.ui.addOrganSection.collapsed = False
    add_organ, ui = panel.add_organ, panel.add_organ.ui

    def settle() -> None:
        host.process_events(lambda: not add_organ.session.queue.busy, SECONDS)

    folder = work / "colon-study"
    folder.mkdir()
    camera.save("add-organ-start", SECTION)
    host.answers.add(str(folder))
    ui.createProjectButton.click()
    settle()
    ui.offerSearch.text = "col"
    camera.save("add-organ-project", SECTION)
    ui.addOrganButton.click()
    settle()
    labels = {"liver": 1, "left kidney": 2, "large bowel": 3, "lesion": 4}
    host.answers.add(str(write_nnunet(work / "Dataset017_Bowel", labels)))
    ui.importButton.click()
    settle()
    ui.importTable.setCurrentCell(2, 0)
    ui.importOrganSelector.currentIndex = ui.importOrganSelector.findData(add_organ.session.new_organs[0])
    add_organ.message.clear()
    camera.save("add-organ-import", SECTION)
    ui.importDropButton.click()
    add_organ.show_step("cases")
    _add_cases(folder)
    add_organ.guarded(add_organ.session.reload)
    add_organ.cases.open("case_04")
    camera.save("add-organ-empty", SECTION)
    ui.presegmentButton.click()
    host.process_events(lambda: not add_organ.cases.busy, SECONDS)
    drawn = np.zeros(slicer.util.arrayFromVolume(add_organ.cases._volume).shape, np.uint8)
    drawn[20:34, 40:58, 60:78] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        drawn, add_organ.cases._node, add_organ.session.new_organs[0], add_organ.cases._volume
    )
    ui.paintButton.click()
    add_organ.message.clear()
    ui.caseTable.setCurrentCell(3, 0)
    camera.save("add-organ-cases", SECTION)
    ui.doneButton.click()
    settle()
    camera.save("add-organ-done", SECTION)
    add_organ.show_step("train")
    add_organ.message.clear()
    plan(iterations=600, seconds=0.01, shown_seconds=2.2)
    ui.trainButton.click()
    host.process_events(lambda: add_organ.train.log.iteration >= 330, SECONDS)
    camera.save("add-organ-train", SECTION)
    host.process_events(lambda: add_organ.train.state == "finished", SECONDS)
    add_organ.show_step("report")
    add_organ.message.clear()
    camera.save("add-organ-report", SECTION)
    for count, dice in ((1, 0.44), (3, 0.69), (8, 0.81)):
        write_measured_run(folder, add_organ.session.new_organs[0], count, dice)
    ui.learningButton.click()
    settle()
    camera.save("add-organ-learning", SECTION)
    ui.publishButton.click()
    settle()
    camera.save("add-organ-published", SECTION)


def _add_cases(project: Path) -> None:
    """Put phantoms into the project as cases, three of them with what is known of the organ."""
    from multiorganseg.phantom import phantom_ct
    from multiorganseg.volumes import Volume, write_volume

    volume = phantom_ct()
    path = project / "project.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    organ = list(data["labels"].values())[-1]
    for number in range(1, CASES + 1):
        name = f"case_{number:02}"
        write_volume(volume, project / "images" / f"{name}.nrrd")
        status = {1: {"annotated": [organ]}, 2: {"annotated": [organ]}, 3: {"absent": [organ]}}.get(
            number, {}
        )
        labels = f"labels/{name}.nrrd" if "annotated" in status else None
        if labels:
            drawn = np.zeros(volume.voxels.shape, np.uint8)
            drawn[20:30, 40:50, 60:70] = len(data["labels"])
            write_volume(Volume(drawn, volume.affine, name), project / labels)
        data["cases"][name] = {
            "image": f"images/{name}.nrrd",
            "labels": labels,
            "source": "",
            "status": status,
        }
    path.write_text(json.dumps(data), encoding="utf-8")

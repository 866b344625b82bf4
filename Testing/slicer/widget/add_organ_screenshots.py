"""Pictures of the section Add organ from a real project: its cases, its last training, that one's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SECTION = "addOrganSection"
SECONDS = 600


def take_add_organ(
    host: Any, panel: Any, camera: Any, project: Path, dataset: Path, case: str, organ: str
) -> None:
    """Open a project and show each step, as the guide does; nothing in it is changed.

    Args:
        host: The stand-in application.
        panel: The module's panel.
        camera: Saves pictures, see `screenshots`.
        project: With a training, which may be under way.
        dataset: An nnU-Net dataset that an import could add.
        case: Of the project, to be opened.
        organ: Key of the organ to be annotated in it, and to be shown in the report.
    """
    panel.ui.addOrganSection.collapsed = False
    add_organ, ui = panel.add_organ, panel.add_organ.ui

    def settle() -> None:
        host.process_events(lambda: not add_organ.session.queue.busy, SECONDS)

    host.answers.add(str(project))
    ui.openProjectButton.click()
    settle()
    add_organ.show_step("project")
    camera.save("add-organ-project", SECTION)
    host.answers.add(str(dataset))
    ui.importButton.click()
    settle()
    add_organ.message.clear()
    camera.save("add-organ-import", SECTION)
    ui.importDropButton.click()
    add_organ.show_step("cases")
    add_organ.worklist.choose_organ(organ)
    add_organ.cases.open(case)
    camera.save("add-organ-cases", SECTION)
    for step in ("train", "report"):
        add_organ.show_step(step)
        host.process_events(lambda: bool(add_organ.train.log.iteration), SECONDS)
        add_organ.message.clear()
        _choose(ui.reportTable, add_organ.session.project.catalogue.get(organ).name)
        camera.save(f"add-organ-{step}", SECTION)
    if ui.learningButton.enabled:
        ui.learningButton.click()
        settle()
        camera.save("add-organ-learning", SECTION)


def _choose(table: Any, name: str) -> None:
    rows = [row for row in range(table.rowCount) if table.item(row, 0).text() == name]
    if rows:
        table.setCurrentCell(rows[0], 0)

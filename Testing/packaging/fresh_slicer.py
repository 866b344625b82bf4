"""Opens the module as a user does in a Slicer that has no package of ours yet: run by a test.

Usage: fresh_slicer.py HOST_FOLDER MODULE_FOLDER WORK_FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(host_folder: Path, module_folder: Path, work: Path) -> None:
    """Press every button that must work or tell what is missing, and write what is seen as JSON."""
    sys.path[:] = [str(host_folder), *(path for path in sys.path if path)]
    import slicer_host

    host = slicer_host.start(widgets=True)
    module = host.load_module("MultiOrganSeg", module_folder)
    import slicer

    slicer.util.selectModule("MultiOrganSeg")
    panel = slicer.modules.MultiOrganSegWidget.panel
    ui = panel.ui
    reported: dict[str, Any] = {
        "install": not ui.dependencyFrame.isHidden(),
        "missing": ui.dependencyLabel.text,
        "device": panel._probe.running,
    }
    ui.phantomButton.click()
    reported["phantom"] = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    for button in (ui.applyButton, ui.installButton):
        host.answers.add(0)
        button.click()
        reported[button.objectName] = ui.segmentMessageLabel.text
    from multiorganseg.errors import DependencyError

    try:
        module.python.MultiOrganSegLogic().process(panel.parameters.volume)
    except DependencyError as error:
        reported["script"] = str(error)
    ui.addOrganSection.collapsed = False
    add_organ = panel.add_organ
    from MultiOrganSegLib.add_organ import trainer

    host.answers.add(0)
    add_organ.guarded(lambda: add_organ.project._create_in(work / "project"))
    reported["add_organ"] = add_organ.ui.addOrganMessageLabel.text
    reported["busy"] = add_organ.session.queue.busy
    try:
        trainer.start_command(["project", "--help"])
    except DependencyError as error:
        reported["command"] = str(error)
    reported["asked"] = host.answers.texts
    reported["errors"] = [repr(error) for error in host.errors]
    host.reset()
    sys.stdout.write(json.dumps(reported) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

"""Slicer's process, to be killed: opens a project in the section Add organ, does one thing, and tells of it.

    python gui_process.py PROJECT save|train

Each thing that happens is a line on standard output: `saving PID` and `training PID` name the child process,
`saved` follows. It ends only when it is killed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "Testing" / "host"), str(HERE), str(ROOT / "MultiOrganSeg")]
SECONDS = 600.0


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    import numpy as np
    import slicer_host

    host = slicer_host.start(widgets=True)
    import slicer
    from add_organ_project import FAKE, SHAPE

    from MultiOrganSegLib import dependencies
    from MultiOrganSegLib.add_organ import trainer
    from MultiOrganSegLib.panels.device import DeviceProbe

    dependencies.missing_packages = lambda _entry=None: []
    DeviceProbe.start = lambda _self: None
    trainer.trainer_command = lambda arguments: [sys.executable, str(FAKE), trainer.PACKAGE, *arguments]
    module = host.load_module("MultiOrganSeg", ROOT / "MultiOrganSeg")
    widget = module.widgetRepresentation().self()
    widget.enter()
    widget.panel.ui.addOrganSection.collapsed = False
    add_organ = widget.panel.add_organ
    host.answers.add(sys.argv[1])
    add_organ.ui.openProjectButton.click()
    if sys.argv[2] == "save":
        add_organ.show_step("cases")
        case = add_organ.session.project.cases["case_3"]
        add_organ.cases.open(case.name)
        drawn = np.zeros(SHAPE, np.uint8)
        drawn[3:6, 8:12, 10:15] = 1
        organ = add_organ.session.new_organs[0]
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            drawn, add_organ.cases._node, organ, add_organ.cases._volume
        )
        add_organ.ui.doneButton.click()
        host.process_events(lambda: add_organ.session.queue._job is not None, SECONDS)
        tell(f"saving {add_organ.session.queue._job.pid}")
        host.process_events(lambda: not add_organ.session.queue.busy, SECONDS)
        tell("saved")
    else:
        add_organ.show_step("train")
        add_organ.ui.trainButton.click()
        host.process_events(lambda: add_organ.train.log.iteration >= 2, SECONDS)
        tell(f"training {add_organ.train.run.orders().pid}")
    host.process_events(lambda: False, SECONDS)


if __name__ == "__main__":
    os.environ.setdefault("MULTIORGANSEG_FAKE_TRAINER", json.dumps({"iterations": 60, "seconds": 0.05}))
    main()

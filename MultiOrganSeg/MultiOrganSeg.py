"""MultiOrganSeg: segment many organs of a CT with one click. Glue; the work is done in MultiOrganSegLib."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

from MultiOrganSegLib.logic import Logic

if TYPE_CHECKING:
    from MultiOrganSegLib.parameters import Parameters


class MultiOrganSeg(ScriptedLoadableModule):
    """What the application shows of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = _("MultiOrganSeg")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.contributors = ["The MultiOrganSeg project"]
        parent.helpText = _(
            "Segment the organs of a CT with one click. Choose a volume, tick organs and press Apply; "
            "Slicer stays usable meanwhile. Results are for research and must be checked by a clinician."
        )
        parent.acknowledgementText = _(
            "Built on MONAI, PyTorch and highdicom. The bundled networks were trained on public "
            "collections; their cards say on which."
        )
        slicer.app.connect("startupCompleted()", _register_sample_data)

    def setup(self) -> None:
        """Make the Segment Editor's effect known."""
        from MultiOrganSegLib.correct import register_effect

        register_effect()


class MultiOrganSegLogic(ScriptedLoadableModuleLogic, Logic):
    """The logic for scripts: `process`, `start`, `correct`, `undo` and `canUndo`."""

    def getParameterNode(self) -> Parameters:
        """Return the parameters that the scene keeps, made with their defaults where there are none."""
        from MultiOrganSegLib.parameters import Parameters

        return Parameters(super().getParameterNode())  # type: ignore[call-arg]


class MultiOrganSegWidget(ScriptedLoadableModuleWidget):
    """The module's panel; see `MultiOrganSegLib.widget.Widget`, which is `panel` here."""

    def setup(self) -> None:
        """Build the panel."""
        from MultiOrganSegLib.widget import Widget

        super().setup()
        self.logic = MultiOrganSegLogic()
        is_open = bool(getattr(self.parent, "isEntered", True))
        self.panel = Widget(self.layout, Path(self.resourcePath("UI/MultiOrganSeg.ui")), self.logic, is_open)
        self.ui = self.panel.ui

    def enter(self) -> None:
        """The module is shown."""
        self.panel.enter()

    def exit(self) -> None:
        """Another module is shown."""
        self.panel.exit()

    def cleanup(self) -> None:
        """The module is unloaded."""
        self.panel.cleanup()

    def onReload(self) -> None:
        """Load MultiOrganSegLib anew as well."""
        for name in [name for name in sys.modules if name.split(".")[0] == "MultiOrganSegLib"]:
            del sys.modules[name]
        super().onReload()


class MultiOrganSegTest(ScriptedLoadableModuleTest):
    """The self-test, which needs no data and no network connection."""

    def runTest(self, **_options: Any) -> None:
        """Run it."""
        from MultiOrganSegLib.self_test import run_self_test

        run_self_test(MultiOrganSegLogic())


def _register_sample_data() -> None:
    from MultiOrganSegLib.sample_data import register_sample_data

    register_sample_data()

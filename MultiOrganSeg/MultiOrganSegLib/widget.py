"""The module's panel: its sections on the parameter node, and the run under way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from multiorganseg.bundles import find_bundle
from multiorganseg.errors import BundleError, MultiOrganSegError, OrganError, ResourceError, VolumeError
from MultiOrganSegLib import dependencies, sample_data, server
from MultiOrganSegLib.corrections import drawn_by_people, names_of
from MultiOrganSegLib.mrml import use_ct_window
from MultiOrganSegLib.panels.add_organ import AddOrganPanel
from MultiOrganSegLib.panels.device import DeviceProbe
from MultiOrganSegLib.panels.models import ModelsPanel
from MultiOrganSegLib.panels.results import ResultsPanel
from MultiOrganSegLib.panels.segment import SegmentPanel
from MultiOrganSegLib.parameters import NO_ORGAN, organ_keys

_POLL_MILLISECONDS = 150
_VOLUME = "vtkMRMLScalarVolumeNode"


class Widget(VTKObservationMixin):
    """Wires the sections with the logic; all of a run happens in small steps of a timer.

    Args:
        layout: Layout of the module's panel, to which the widgets are added.
        ui_path: The .ui file.
        logic: The module's logic: `Logic`, with `getParameterNode`.
        is_open: Whether the module is shown already, as after Reload, which does not call `enter`.

    Attributes:
        ui: The widgets of the .ui file by name.
        run: The `SegmentRun` under way, or None.
        parameters: The `Parameters` on show, or None while there are none.
    """

    def __init__(self, layout: Any, ui_path: Path, logic: Any, is_open: bool = False) -> None:
        super().__init__()
        self.logic = logic
        self.run: Any = None
        self.parameters: Any = None
        self.root = slicer.util.loadUI(str(ui_path))
        layout.addWidget(self.root)
        self.ui = slicer.util.childWidgetVariables(self.root)
        self.root.setMRMLScene(slicer.mrmlScene)
        self.segment = SegmentPanel(self.ui)
        self.results = ResultsPanel(self.ui, lambda node: self.add_organ.keep_result(node))
        self.models = ModelsPanel(self.ui, self._models_installed)
        self.add_organ = AddOrganPanel(self.ui.addOrganSection, ui_path.parent, logic, self._models_changed)
        self._gui_tag: Any = None
        self._entered = False
        self._shown_result: Any = None
        self._shown_volume: Any = None
        self._probe = DeviceProbe()
        self._timer = qt.QTimer(self.root)
        self._timer.setInterval(_POLL_MILLISECONDS)
        self._timer.connect("timeout()", self._tick)
        self._wire()
        self.segment.show_running(False)
        self.segment.reload_models()
        for event, callback in (
            (slicer.mrmlScene.StartCloseEvent, self._scene_closes),
            (slicer.mrmlScene.EndCloseEvent, self._scene_closed),
            (slicer.mrmlScene.EndImportEvent, self._scene_closed),
            (slicer.mrmlScene.NodeAddedEvent, self._node_added),
        ):
            self.addObserver(slicer.mrmlScene, event, callback)
        if is_open:
            self.enter()

    def enter(self) -> None:
        """The module is shown."""
        self._entered = True
        self.segment.show_missing(dependencies.missing_packages())
        self._attach()
        self.results.enter()
        self.add_organ.enter()

    def exit(self) -> None:
        """Another module is shown; a run goes on."""
        self._entered = False
        self.results.exit()
        self.add_organ.exit()
        self._detach()

    def cleanup(self) -> None:
        """The module is unloaded, or Slicer is closed: end what runs and let go of the scene."""
        self.cancel()
        self.add_organ.cleanup()
        self.models.stop()
        self.models.add.close()
        self._probe.cancel()
        self._timer.stop()
        self.results.close()
        self._detach()
        self.removeObservers()
        self.logic.close()

    def apply(self, existing: str = "") -> None:
        """Start a run, or cancel the one under way; what hinders it is shown in the panel.

        Args:
            existing: "replace" or "new" when the user has answered what happens to the output's segments.
        """
        self.segment.drop_question()
        if self.run is not None:
            self.cancel()
            return
        self.segment.message.clear()
        try:
            self._start(existing)
        except BundleError as error:
            self.segment.message.show_error(
                error, _("Choose another model, or install this one in the section Models.")
            )
        except MultiOrganSegError as error:
            self.segment.message.show_error(error)

    def cancel(self) -> None:
        """End the run under way; the scene stays as it was before it."""
        if self.run is not None:
            self.run.cancel()
            self._finish()

    def undo(self, discard: bool = False) -> None:
        """Return back what the output held before the last run; asks first where work by hand would be lost.

        Args:
            discard: Whether the user has agreed to losing it.
        """
        node = self.parameters.segmentation if self.parameters else None
        self.segment.message.clear()
        self.segment.drop_question()
        drawn = [] if node is None or discard else drawn_by_people(node)
        if node is not None and drawn:
            self.segment.ask_undo(node.GetName(), names_of(node, drawn))
            return
        try:
            self.logic.undo(node, discardCorrections=discard)
        except MultiOrganSegError as error:
            self.segment.message.show_error(error)
            return
        self._shown_result = None
        self._update()
        self.segment.message.show_note(_("The last run is undone."))

    def _wire(self) -> None:
        self.segment.on("applyButton", self.apply)
        self.segment.on("undoButton", self.undo)
        self.segment.on("replaceButton", lambda: self.apply("replace"))
        self.segment.on("newButton", lambda: self.apply("new"))
        self.segment.on("dropButton", self.segment.drop_question)
        self.segment.on("undoAnywayButton", lambda: self.undo(discard=True))
        self.segment.on("undoDropButton", self.segment.drop_question)
        self.segment.on("installButton", self._install)
        self.segment.on("sampleButton", lambda: self._load(sample_data.load_sample_ct))
        self.segment.on("phantomButton", lambda: self._load(sample_data.load_phantom))

    def _start(self, existing: str) -> None:
        parameters = self.parameters
        if parameters.volume is None:
            raise VolumeError(
                _("No volume is chosen."), next_step=_("Choose a CT above, or load the sample CT.")
            )
        if dependencies.missing_packages(server.needed()):
            self._ensure_dependencies()
        if self.segment.organs == NO_ORGAN:
            raise OrganError(_("No organ is ticked."), next_step=_("Tick the organs that you want."))
        find_bundle(parameters.model, hashed=False)
        target = parameters.segmentation
        if target is not None and target.GetSegmentation().GetNumberOfSegments():
            choice = existing or parameters.existing
            drawn = drawn_by_people(target) if choice != "new" and not existing else []
            if choice == "ask" or drawn:
                self.segment.ask_existing(target.GetName(), names_of(target, drawn))
                return
            target = target if choice == "replace" else None
        self.run = self.logic.start(
            parameters.volume,
            target,
            model=parameters.model,
            organs=organ_keys(self.segment.organs),
            quality=parameters.quality,
            device=parameters.device,
        )
        self.segment.show_running(True)
        self._update_undo()
        self._timer.start()

    def _tick(self) -> None:
        if self._probe.running and (device := self._probe.poll()):
            self.segment.show_device(device)
        if self.run is not None:
            try:
                self.run.poll()
                self.segment.show_progress(self.run)
                ended = self.run.state != "running"
            except BaseException:
                self.cancel()
                raise
            if ended:
                self._finish()
        if self.run is None and not self._probe.running:
            self._timer.stop()

    def _finish(self) -> None:
        run, self.run = self.run, None
        self.segment.show_log(run.log)
        self.segment.show_running(False)
        if run.state == "finished":
            self._show_finished(run)
        else:
            self.ui.segmentSection.collapsed = False
            if run.error is not None:
                self.segment.message.show_error(run.error)
            else:
                self.segment.message.show_note(_("Cancelled; the scene is as it was."), run.messages)
        self._update_undo()

    def _show_finished(self, run: Any) -> None:
        parameters = self.parameters or self.logic.getParameterNode()
        parameters.segmentation = run.segmentation_node
        self._show_result(run.segmentation_node)
        done = _("“{name}” is ready.").format(name=run.segmentation_node.GetName())
        self.results.message.show_note(done, run.messages)
        self.results.bring()

    def _attach(self) -> None:
        """Take the scene's parameter node, made anew where there is none."""
        self._detach()
        self.parameters = self.logic.getParameterNode()
        self._choose_volume()
        self._gui_tag = self.parameters.connectGui(self.ui)
        modified = vtk.vtkCommand.ModifiedEvent
        self.addObserver(self.parameters.parameterNode, modified, self._parameters_changed)
        self.segment.attach(self.parameters)
        self._update()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _node_added(self, _caller: Any, _event: str, node: Any) -> None:
        """Choose a volume that comes while the panel is open, as soon as it has its voxels."""
        if self._entered and node.GetClassName() == _VOLUME:
            qt.QTimer.singleShot(0, self._choose_volume)

    def _choose_volume(self) -> None:
        """Choose the first volume with voxels where none is chosen."""
        if self.parameters is None or self.parameters.volume is not None:
            return
        nodes = slicer.util.getNodesByClass(_VOLUME)
        filled = (node for node in nodes if node.GetClassName() == _VOLUME and node.GetImageData())
        if (first := next(filled, None)) is not None:
            self.parameters.volume = first

    def _detach(self) -> None:
        if self.parameters is not None:
            self.parameters.disconnectGui(self._gui_tag)
            self.removeObservers(self._parameters_changed)
            self.segment.attach(None)
            self.parameters = None

    def _parameters_changed(self, _caller: Any, _event: str) -> None:
        self._update()

    def _update(self) -> None:
        if self.parameters is None:
            return
        self.segment.update()
        if self.parameters.segmentation is not self._shown_result:
            self._show_result(self.parameters.segmentation)
        self._update_undo()
        if self.parameters.volume is not self._shown_volume:
            self._shown_volume = self.parameters.volume
            if self._shown_volume is not None:
                use_ct_window(self._shown_volume)
        if self.parameters.volume is not None:
            self._ask_device()

    def _show_result(self, node: Any) -> None:
        self._shown_result = node
        self.results.show(node)

    def _update_undo(self) -> None:
        node = self.parameters.segmentation if self.parameters else None
        self.ui.undoButton.enabled = self.run is None and node is not None and self.logic.canUndo(node)

    def _scene_closes(self, _caller: Any, _event: str) -> None:
        self.cancel()
        self.add_organ.scene_closes()
        self.segment.drop_question()
        self._detach()
        self._show_result(None)

    def _scene_closed(self, _caller: Any, _event: str) -> None:
        if self._entered:
            self._attach()

    def _load(self, load: Any) -> None:
        self.segment.message.clear()
        try:
            with slicer.util.WaitCursor():
                node = load()
        except MultiOrganSegError as error:
            self.segment.message.show_error(error)
            return
        if self.parameters is not None:
            self.parameters.volume = node
        slicer.util.setSliceViewerLayers(background=node, fit=True)

    def _install(self) -> None:
        self.segment.message.clear()
        try:
            self._ensure_dependencies()
        except MultiOrganSegError as error:
            self.segment.message.show_error(error)

    def _ensure_dependencies(self) -> None:
        dependencies.ensure_dependencies()
        self.segment.show_missing(dependencies.missing_packages())
        self.segment.reload_models()
        self._ask_device()

    def _ask_device(self) -> None:
        """Ask once in the background, as soon as there is something to segment and PyTorch to ask."""
        try:
            if self._probe.ask_once():
                self._timer.start()
        except ResourceError as error:
            self.segment.message.show_error(error)

    def _models_installed(self) -> None:
        """Show models that were installed, added or removed in the other sections."""
        self.segment.reload_models()
        self.add_organ.reload_models()

    def _models_changed(self, name: str) -> None:
        """Show the models anew in all sections, and choose one to segment with."""
        if name and self.parameters is not None:
            self.parameters.organs = ""
            self.parameters.model = name
        self.models.reload()
        self.segment.reload_models()

"""The case that is open: pre-segmentation, drawing, and saying that it is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import MultiOrganSegError, OptionError
from multiorganseg.organs.catalogue import Organ
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.projects.project import Project
from multiorganseg.text import counted
from MultiOrganSegLib.add_organ import case_scene, commands
from MultiOrganSegLib.corrections import recount
from MultiOrganSegLib.panels.controls import reveal
from MultiOrganSegLib.panels.segment_editor import CORRECT, FILL, GROW, PAINT, Edits, EmbeddedEditor, jump_to
from MultiOrganSegLib.panels.words import status_text
from MultiOrganSegLib.run import FINISHED, RUNNING

_LABELMAP = "annotation.nrrd"


class CasePane:
    """Opens a case and saves what is drawn in it.

    Args:
        ui: The widgets of the section.
        panel: The `AddOrganPanel`.
        logic: The module's logic, which runs the base model.

    Attributes:
        organ_key: Gives the key of the organ that is annotated; set by the worklist.
        case_name: Of the case that is open; empty when none is.
    """

    def __init__(self, ui: Any, panel: Any, logic: Any) -> None:
        self.organ_key: Callable[[], str] = str
        self.case_name = ""
        self._ui = ui
        self._panel = panel
        self._session = panel.session
        self._logic = logic
        self._volume: Any = None
        self._node: Any = None
        self._run: Any = None
        self._hidden: list[Any] = []
        self._editor = EmbeddedEditor(ui.editorHolder)
        self._edits = Edits(self._edited, ui.caseBox)
        ui.presegmentButton.connect("clicked(bool)", lambda: self._presegment())
        ui.correctButton.connect("clicked(bool)", lambda: self._use(CORRECT))
        ui.paintButton.connect("clicked(bool)", lambda: self._use(PAINT))
        ui.fillButton.connect("clicked(bool)", lambda: self._use(FILL))
        ui.growButton.connect("clicked(bool)", lambda: self._use(GROW))
        ui.doneButton.connect("clicked(bool)", lambda: panel.guarded(self._done))
        ui.absentButton.connect("clicked(bool)", lambda: panel.guarded(self._absent))

    @property
    def busy(self) -> bool:
        """Whether the base model segments the case."""
        return self._run is not None

    def open(self, name: str) -> None:
        """Load a case with what is annotated in it, and show it in the views and in the editor."""
        self._panel.guarded(lambda: self._open(name))

    def close(self) -> None:
        """Let go of the case; what is drawn stays in the scene while that is there."""
        self._cancel_run()
        self._editor.close()
        self._edits.watch(None)
        for display in self._hidden:
            if slicer.mrmlScene.IsNodePresent(display):
                display.SetVisibility(True)
        self._hidden = []
        self.case_name, self._volume, self._node = "", None, None

    def enter(self) -> None:
        """The module is shown."""
        self._editor.enter()

    def exit(self) -> None:
        """Another module is shown; a pre-segmentation goes on."""
        self._editor.exit()

    def update(self) -> None:
        """Show the case and what is known of the organ in it."""
        project, ui = self._session.project, self._ui
        is_case = project is not None and self.case_name in project.cases
        if self.case_name and not (is_case and self._is_there()):
            self.close()
        ui.caseBox.visible = bool(self.case_name)
        if project is None or not self.case_name:
            return
        organ = self._organ(project)
        ui.caseBox.title = _("{case} · {organ}: {status}").format(
            case=self.case_name,
            organ=organ.name,
            status=status_text(project.matrix.status(self.case_name, organ.key)),
        )
        ui.presegmentButton.text = _("Cancel") if self.busy else _("Pre-segmen&t")
        ui.presegmentBar.visible = self.busy
        ready = not self._session.queue.busy and not self.busy
        effects = (ui.correctButton, ui.paintButton, ui.fillButton, ui.growButton)
        for button in (ui.doneButton, ui.absentButton, *effects):
            button.enabled = ready
        self._editor.choose(case_scene.ensure_segment(self._node, organ))

    def poll(self) -> None:
        """Take what the base model has done; to be called from a timer."""
        if self._run is None:
            return
        self._run.poll()
        self._ui.presegmentBar.value = round(100 * self._run.fraction)
        if self._run.state == RUNNING:
            return
        run, self._run = self._run, None
        if run.state == FINISHED:
            self._take_over(run.segmentation_node)
        elif run.error is not None:
            self._panel.show_error(run.error)
        self._panel.update()

    def _open(self, name: str) -> None:
        self._session.reload()
        project: Project = self._session.project
        project.case(name)
        if name != self.case_name:
            self.close()
        with slicer.util.WaitCursor():
            self._volume, self._node = case_scene.open_case(project, name)
        self.case_name = name
        self._hidden += case_scene.hide_others(self._node)
        self._node.GetDisplayNode().SetVisibility(True)
        organ = self._organ(project)
        segment = case_scene.ensure_segment(self._node, organ)
        slicer.util.setSliceViewerLayers(background=self._volume, fit=True)
        self._editor.show(self._volume, self._node, segment)
        self._edits.watch(self._node)
        if segment in case_scene.drawn_segments(self._node):
            jump_to(self._node, segment)
        self._panel.update()
        reveal(self._ui.caseBox, on_top=True)

    def _edited(self) -> None:
        """Let segments that a model drew say that they were corrected, so that what Slicer saves is right."""
        if self._is_there():
            recount(self._node)

    def _organ(self, project: Project) -> Organ:
        return project.catalogue.get(self.organ_key() or project.keys[0])

    def _is_there(self) -> bool:
        present = slicer.mrmlScene.IsNodePresent
        return all(node is not None and present(node) for node in (self._volume, self._node))

    def _use(self, effect: str) -> None:
        project = self._session.project
        if effect == GROW and project is not None:
            case_scene.ensure_background(self._node, self._organ(project).key)
        self._editor.use(effect)

    def _presegment(self) -> None:
        if self.busy:
            self._cancel_run()
            self._panel.update()
        else:
            self._panel.guarded(self._start_presegment)

    def _start_presegment(self) -> None:
        base = self._session.base_bundle()
        self._ui.presegmentBar.value = 0
        self._run = self._logic.start(self._volume, None, model=base.metadata.name, quality="fast")
        self._panel.watch()
        self.update()

    def _take_over(self, result: Any) -> None:
        project: Project = self._session.project
        organ = self._organ(project)
        annotated = sorted(project.matrix.organs_with(self.case_name, LabelStatus.ANNOTATED))
        keep = case_scene.kept_segments(self._node, organ.key, annotated)
        count = case_scene.take_over(result, self._node, keep)
        self._panel.message.show_note(
            counted(
                count,
                _("{count} organ of the base model is in the segmentation, as landmark and seed."),
                _("{count} organs of the base model are in the segmentation, as landmarks and seeds."),
            )
        )

    def _cancel_run(self) -> None:
        if self._run is not None:
            self._run.cancel()
            self._run = None

    def _done(self) -> None:
        project: Project = self._session.project
        case, organ = self.case_name, self._organ(project)
        folder = case_scene.temporary_folder()
        path = Path(folder.name) / _LABELMAP
        try:
            with slicer.util.WaitCursor():
                voxels = case_scene.export_organ(self._node, organ, self._volume, path)
        except BaseException:
            folder.cleanup()
            raise
        corrected = case_scene.confirm(self._node, organ.key)
        arguments = commands.annotate(project.folder, case, path, organ.key, corrected=corrected)
        text = _("Saving {organ} of {case}").format(organ=organ.name, case=case)
        said = _("Saved: {organ} of {case}, {voxels}.").format(
            organ=organ.name,
            case=case,
            voxels=counted(voxels, _("{count} voxel"), _("{count} voxels")),
        )
        self._panel.run(text, arguments, lambda _warnings: self._tell_saved(said, organ), folder.cleanup)

    def _absent(self) -> None:
        project: Project = self._session.project
        case, organ = self.case_name, self._organ(project)
        if organ.key in case_scene.drawn_segments(self._node):
            raise _is_drawn(organ, case)
        arguments = commands.set_absent(project.folder, case, organ.key)
        text = _("Saving {case}").format(case=case)
        said = _("Saved: {case} does not hold {organ}.").format(case=case, organ=organ.name)
        self._panel.run(text, arguments, lambda _warnings: self._tell_saved(said, organ))

    def _tell_saved(self, said: str, organ: Organ) -> None:
        project: Project = self._session.project
        rows = project.matrix.rows
        waiting = [case for case in rows if rows[case][organ.key] is LabelStatus.UNKNOWN]
        following = (
            _("Next: double-click {case}, or train.").format(case=waiting[0])
            if waiting
            else _("All cases are done: go on to step 3.")
        )
        self._panel.message.show_note(_("{saved} {following}").format(saved=said, following=following))


def _is_drawn(organ: Organ, case: str) -> MultiOrganSegError:
    return OptionError(
        _("{organ} is drawn in {case}.").format(organ=organ.name, case=case),
        cause=_("An organ that is absent has no voxels."),
        next_step=_("Clear the segment first, or press Done if the organ is there."),
    )

"""A result that was checked becomes a case of the project: only with the organs that a person confirms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import OrganError, TrainingError, VolumeError
from multiorganseg.organs.catalogue import Organ
from multiorganseg.projects.project import Project
from MultiOrganSegLib.add_organ import case_scene, commands
from MultiOrganSegLib.panels.add_organ_worklist import free_names
from MultiOrganSegLib.panels.controls import reveal
from MultiOrganSegLib.panels.pictures import swatch


class KeepPane:
    """Lists the organs of a result that the project knows; none is ticked before a person does so.

    Args:
        ui: The widgets of the section.
        panel: The `AddOrganPanel`.
    """

    def __init__(self, ui: Any, panel: Any) -> None:
        self._ui = ui
        self._panel = panel
        self._session = panel.session
        self._node: Any = None
        self._volume: Any = None
        self._organs: list[Organ] = []
        ui.keepAddButton.connect("clicked(bool)", lambda: panel.guarded(self._add))
        ui.keepDropButton.connect("clicked(bool)", lambda: self._drop())
        ui.keepList.connect("itemChanged(QListWidgetItem*)", lambda _item: self._ticked())

    def show(self, node: Any) -> None:
        """Ask about a result.

        Raises:
            OrganError: No organ of it is one of the project.
            TrainingError: No project is open.
            VolumeError: The volume that it was made from is gone.
        """
        project: Project | None = self._session.project
        if project is None:
            self._panel.show_step("project")
            raise TrainingError(
                _("No project is open."),
                cause=_("A case belongs to a project."),
                next_step=_("Create or open one here, and press “Add to project” again."),
            )
        volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
        if volume is None:
            raise VolumeError(
                _("The volume of {name} is not in the scene.").format(name=node.GetName()),
                next_step=_("Load it, and choose it as source volume in the Segment Editor."),
            )
        drawn = case_scene.drawn_segments(node)
        self._organs = [project.catalogue.get(key) for key in project.keys if key in drawn]
        if not self._organs:
            raise OrganError(
                _("{name} holds no organ of the project {project}.").format(
                    name=node.GetName(), project=project.name
                ),
                next_step=_("Add the organ to the project in step 1, or open another project."),
            )
        self._node, self._volume = node, volume
        self._fill(project)
        self._panel.show_step("cases")
        reveal(self._ui.keepBox, on_top=True)

    def update(self) -> None:
        """Show what is asked, as long as it is there."""
        present = slicer.mrmlScene.IsNodePresent
        if self._node is not None and not (present(self._node) and present(self._volume)):
            self._node = self._volume = None
        self._ui.keepBox.visible = self._node is not None
        self._ticked()

    def _fill(self, project: Project) -> None:
        self._ui.keepLabel.text = _(
            "Which organs of <b>{name}</b> have you checked, and are right? Only those become annotated in "
            "the project {project}; all others stay unknown."
        ).format(name=escape(self._node.GetName()), project=escape(project.name))
        box = self._ui.keepList
        blocked = box.blockSignals(True)
        box.clear()
        for organ in self._organs:
            item = qt.QListWidgetItem(organ.name)
            item.setIcon(swatch([part / 255 for part in organ.color]))
            item.setFlags(item.flags() | qt.Qt.ItemIsUserCheckable)
            item.setCheckState(qt.Qt.Unchecked)
            box.addItem(item)
        box.blockSignals(blocked)

    def _confirmed(self) -> list[Organ]:
        items = [self._ui.keepList.item(row) for row in range(len(self._organs))]
        pairs = zip(self._organs, items, strict=True)
        return [organ for organ, item in pairs if item and item.checkState() == qt.Qt.Checked]

    def _ticked(self) -> None:
        ready = self._node is not None and not self._session.queue.busy
        self._ui.keepAddButton.enabled = ready and bool(self._confirmed())

    def _drop(self) -> None:
        self._node = self._volume = None
        self._panel.update()

    def _add(self) -> None:
        project: Project = self._session.project
        node, volume, organs = self._node, self._volume, self._confirmed()
        known = case_scene.is_case(volume, project)
        name = case_scene.case_of(volume) if known else free_names([volume.GetName()], project)[0]
        folder = case_scene.temporary_folder()
        try:
            with slicer.util.WaitCursor():
                image = None if known else case_scene.image_file(volume, Path(folder.name))
                files = [Path(folder.name) / f"{organ.key}.nrrd" for organ in organs]
                for organ, file in zip(organs, files, strict=True):
                    case_scene.export_organ(node, organ, volume, file)
        except BaseException:
            folder.cleanup()
            raise
        for organ in organs:
            case_scene.confirm(node, organ.key)
        said = _("{case} is a case now, annotated: {organs}.").format(
            case=name, organs=", ".join(organ.name for organ in organs)
        )
        if image is not None:
            mark = partial(case_scene.mark, volume, project, name)
            arguments = commands.add_case(project.folder, image, name)
            self._panel.run(_("Adding {name}").format(name=name), arguments, lambda _warnings: mark())
        for number, (organ, file) in enumerate(zip(organs, files, strict=True), start=1):
            is_last = number == len(organs)
            self._panel.run(
                _("Saving {organ} of {case}").format(organ=organ.name, case=name),
                commands.annotate(project.folder, name, file, organ.key),
                partial(self._saved, said if is_last else ""),
                folder.cleanup if is_last else None,
            )
        self._drop()

    def _saved(self, said: str, _warnings: Sequence[str]) -> None:
        if said:
            self._panel.message.show_note(said)

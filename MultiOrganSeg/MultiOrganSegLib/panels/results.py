"""The section that shows what was found, worst first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import MultiOrganSegError
from multiorganseg.text import counted
from MultiOrganSegLib import dependencies, dicom_objects, result
from MultiOrganSegLib.corrections import recount
from MultiOrganSegLib.panels.controls import MessageArea, ask_save, is_seen, reveal
from MultiOrganSegLib.panels.pictures import lay_out, swatch
from MultiOrganSegLib.panels.segment_editor import (
    CORRECT,
    Edits,
    jump_to,
    look_at_everything,
    select_in_editor,
    set_surfaces_visible,
    use_effect,
)
from MultiOrganSegLib.panels.words import flag_text, flag_title


class ResultsPanel:
    """The table of organs, its links to the views, and exports.

    Args:
        ui: The widgets of the .ui file.
        keep: Called with the segmentation that shall be kept as a case of a project.

    Attributes:
        message: Where errors and finished exports are shown.
    """

    def __init__(self, ui: Any, keep: Callable[[Any], None]) -> None:
        self.message = MessageArea(ui.resultsMessageFrame, ui.resultsMessageLabel)
        self._ui = ui
        self._node: Any = None
        self._rows: Sequence[Any] = ()
        self._looked_at: set[str] = set()
        self._entered = False
        self._comes_back = False
        self._edits = Edits(self._edited, ui.resultsTable)
        ui.resultsTable.connect("cellClicked(int,int)", lambda row, _column: self._go_to(row))
        ui.resultsTable.connect("currentCellChanged(int,int,int,int)", lambda row: self._go_to(row))
        ui.resultsTable.connect("cellActivated(int,int)", lambda row, _column: self._go_to(row))
        ui.show3dButton.connect("toggled(bool)", self._show_surfaces)
        ui.correctButton.connect("clicked(bool)", lambda: self._edit(CORRECT))
        ui.editButton.connect("clicked(bool)", lambda: self._edit())
        ui.keepButton.connect("clicked(bool)", lambda: keep(self._node))
        ui.exportSegButton.connect("clicked(bool)", lambda: self._export(".seg.nrrd", result.export_seg_nrrd))
        ui.exportCsvButton.connect("clicked(bool)", lambda: self._export(".csv", result.export_csv))
        ui.exportDicomButton.connect("clicked(bool)", lambda: self._export(".dcm", _export_dicom))
        ui.toDatabaseButton.connect("clicked(bool)", lambda: self._to_database())
        ui.toServerButton.connect("clicked(bool)", lambda: self._to_server())
        lay_out(ui.resultsTable)
        self.show(None)

    def show(self, node: Any) -> None:
        """Show the organs of a segmentation; None, or one that MultiOrganSeg did not make, shows none."""
        self._node = node
        self._edits.watch(node)
        self.message.clear()
        self._update()
        self._describe(-1)

    def enter(self) -> None:
        """The module is shown: what was edited meanwhile is measured anew."""
        self._entered = True
        comes_back = self._comes_back or self._edits.pending
        self._edited()
        if comes_back and self._node is not None:
            self.bring()

    def bring(self) -> None:
        """Bring the section before the user's eyes; Segment is folded where both do not fit."""
        self._ui.resultsSection.collapsed = False
        self._comes_back = not self._entered
        if self._entered:
            qt.QTimer.singleShot(0, self._fit)

    def _fit(self) -> None:
        if not is_seen(self._ui.resultsSection):
            self._ui.segmentSection.collapsed = True
        reveal(self._ui.resultsSection, on_top=True)

    def exit(self) -> None:
        """Another module is shown; edits are still measured, so that what is saved is right."""
        self._entered = False

    def close(self) -> None:
        """Let go of the segmentation."""
        self._edits.watch(None)

    def _edited(self) -> None:
        """Show the organs as they are now, if they were edited; the chosen one stays chosen."""
        if not self._edits.pending or self._node is None:
            return
        if not self._entered:
            recount(self._node)
            return
        chosen = self._chosen_id()
        self._update()
        ids = [row.segment_id for row in self._rows]
        number = ids.index(chosen) if chosen in ids else -1
        blocked = self._ui.resultsTable.blockSignals(True)
        self._ui.resultsTable.setCurrentCell(number, 0)
        self._ui.resultsTable.blockSignals(blocked)
        self._describe(number)

    def _update(self) -> None:
        node = self._node
        self._rows = () if node is None else tuple(result.organ_rows(node))
        self._edits.pending = False
        self._fill()
        self._ui.resultsLabel.text = self._summary()
        blocked = self._ui.show3dButton.blockSignals(True)
        display = None if node is None else node.GetDisplayNode()
        self._ui.show3dButton.checked = bool(
            display and display.GetVisibility3D() and node.GetSegmentation().ContainsRepresentation(_SURFACE)
        )
        self._ui.show3dButton.blockSignals(blocked)
        for name in _OF_A_RESULT:
            getattr(self._ui, name).enabled = bool(self._rows)

    def _summary(self) -> str:
        if self._node is None:
            return _("Nothing is segmented yet.")
        name = self._node.GetName()
        if not self._rows:
            return _("“{name}” holds no measurements of MultiOrganSeg.").format(name=name)
        flagged = sum(row.deserves_a_look for row in self._rows)
        corrected = sum(row.is_corrected for row in self._rows)
        parts = [
            counted(len(self._rows), _("{count} organ"), _("{count} organs")),
            _("{count} to look at, on top").format(count=flagged) if flagged else _("nothing was noticed"),
            *([_("{count} corrected").format(count=corrected)] if corrected else []),
        ]
        return _("{name}: {parts}.").format(name=name, parts=", ".join(parts))

    def _fill(self) -> None:
        table = self._ui.resultsTable
        blocked = table.blockSignals(True)
        table.clearContents()
        table.rowCount = len(self._rows)
        for number, row in enumerate(self._rows):
            organ = qt.QTableWidgetItem(row.name)
            organ.setIcon(swatch(row.color))
            organ.setToolTip(row.name)
            table.setItem(number, _ORGAN, organ)
            table.setItem(number, _VOLUME, _number(row.volume_ml, ".1f"))
            table.setItem(number, _CONFIDENCE, _number(row.confidence, ".2f"))
            table.setItem(number, _MEAN, _number(row.mean_intensity, ".0f"))
            flags = qt.QTableWidgetItem(_in_short(row.flags))
            flags.setToolTip("\n".join(flag_text(flag) for flag in row.flags))
            table.setItem(number, _LOOK_AT, flags)
        table.setCurrentCell(-1, -1)
        table.blockSignals(blocked)

    def _describe(self, number: int) -> None:
        if not 0 <= number < len(self._rows):
            self._ui.organDetailLabel.text = (
                _("Click an organ to centre the slices on it.") if self._rows else ""
            )
            return
        row = self._rows[number]
        texts = [flag_text(flag) for flag in row.flags] or [_("Nothing was noticed.")]
        self._ui.organDetailLabel.text = f"{row.name}: {' '.join(texts)}"

    def _chosen_id(self) -> str:
        number = self._ui.resultsTable.currentRow()
        return self._rows[number].segment_id if 0 <= number < len(self._rows) else ""

    def _go_to(self, number: int) -> None:
        self._describe(number)
        if self._node is None or not 0 <= number < len(self._rows):
            return
        segment_id = self._rows[number].segment_id
        select_in_editor(self._node, segment_id)
        jump_to(self._node, segment_id)

    def _edit(self, effect: str = "") -> None:
        """Open the module first: it chooses the first segment when it is made."""
        segment_id = self._chosen_id() or self._rows[0].segment_id
        self._comes_back = True
        slicer.util.selectModule("SegmentEditor")
        select_in_editor(self._node, segment_id)
        if effect:
            use_effect(self._node, segment_id, effect)

    def _show_surfaces(self, shown: bool) -> None:
        if self._node is None:
            return
        set_surfaces_visible(self._node, shown)
        if shown and self._node.GetID() not in self._looked_at:
            self._looked_at.add(self._node.GetID())
            look_at_everything()

    def _export(self, suffix: str, write: Callable[[Any, Path], object]) -> None:
        self.message.clear()
        path = ask_save(slicer.util.mainWindow(), _("Export the organs"), self._node.GetName(), suffix)
        if path is None:
            return
        try:
            write(self._node, path)
        except MultiOrganSegError as error:
            self.message.show_error(error)
            return
        self.message.show_note(_("Saved {path}").format(path=path))

    def _to_database(self) -> list[str]:
        """Put segmentation and report into Slicer's DICOM database; none when that failed, which is told."""
        self.message.clear()
        try:
            dependencies.ensure_dicom_export()
            kept = dicom_objects.add_to_database(self._node, _volume_of(self._node))
        except MultiOrganSegError as error:
            self.message.show_error(error)
            return []
        self.message.show_note(
            _("Segmentation and report are in the DICOM database, in the volume's study. Nothing was sent.")
        )
        return kept

    def _to_server(self) -> None:
        if kept := self._to_database():
            dicom_objects.ask_to_send(kept, slicer.util.mainWindow())


_OF_A_RESULT = (
    *("correctButton", "keepButton"),
    *("show3dButton", "editButton", "exportSegButton", "exportDicomButton", "exportCsvButton"),
    *("toDatabaseButton", "toServerButton"),
)
_ORGAN, _LOOK_AT, _VOLUME, _CONFIDENCE, _MEAN = range(5)
_SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


def _export_dicom(node: Any, path: Path) -> None:
    dependencies.ensure_dicom_export()
    result.export_dicom_seg(node, _volume_of(node), path)


def _volume_of(node: Any) -> Any:
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return node.GetNodeReference(role)


def _in_short(flags: Sequence[str]) -> str:
    """The worst flag and how many more there are: the panel is narrow, and the tooltip tells all."""
    titles = [flag_title(flag) for flag in flags]
    return f"{titles[0]} +{len(titles) - 1}" if len(titles) > 1 else "".join(titles)


def _number(value: float, form: str) -> Any:
    item = qt.QTableWidgetItem("–" if math.isnan(value) else format(value, form))
    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return item

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
from MultiOrganSegLib import dependencies, result
from MultiOrganSegLib.panels.files import ask_save
from MultiOrganSegLib.panels.message import MessageArea
from MultiOrganSegLib.panels.show_organ import jump_to, select_in_editor, set_surfaces_visible
from MultiOrganSegLib.panels.swatch import swatch
from MultiOrganSegLib.panels.table_layout import lay_out
from MultiOrganSegLib.panels.words import flag_text, flag_title


class ResultsPanel:
    """The table of organs, its links to the views, and exports.

    Args:
        ui: The widgets of the .ui file.

    Attributes:
        message: Where errors and finished exports are shown.
    """

    def __init__(self, ui: Any) -> None:
        self.message = MessageArea(ui.resultsMessageFrame, ui.resultsMessageLabel)
        self._ui = ui
        self._node: Any = None
        self._rows: Sequence[Any] = ()
        ui.resultsTable.connect("cellClicked(int,int)", lambda row, _column: self._go_to(row))
        ui.resultsTable.connect("currentCellChanged(int,int,int,int)", lambda row: self._describe(row))
        ui.resultsTable.connect("cellActivated(int,int)", lambda row, _column: self._go_to(row))
        ui.show3dButton.connect("toggled(bool)", self._show_surfaces)
        ui.editButton.connect("clicked(bool)", lambda: self._edit())
        ui.exportSegButton.connect("clicked(bool)", lambda: self._export(".seg.nrrd", result.export_seg_nrrd))
        ui.exportCsvButton.connect("clicked(bool)", lambda: self._export(".csv", result.export_csv))
        ui.exportDicomButton.connect("clicked(bool)", lambda: self._export(".dcm", _export_dicom))
        lay_out(ui.resultsTable)
        self.show(None)

    def show(self, node: Any) -> None:
        """Show the organs of a segmentation; None, or one that MultiOrganSeg did not make, shows none."""
        self._node = node
        self._rows = () if node is None else tuple(result.organ_rows(node))
        self.message.clear()
        self._fill()
        self._describe(-1)
        self._ui.resultsLabel.text = self._summary()
        blocked = self._ui.show3dButton.blockSignals(True)
        display = None if node is None else node.GetDisplayNode()
        self._ui.show3dButton.checked = bool(
            display and display.GetVisibility3D() and node.GetSegmentation().ContainsRepresentation(_SURFACE)
        )
        self._ui.show3dButton.blockSignals(blocked)
        for name in ("show3dButton", "editButton", "exportSegButton", "exportDicomButton", "exportCsvButton"):
            getattr(self._ui, name).enabled = bool(self._rows)

    def _summary(self) -> str:
        if self._node is None:
            return _("Nothing is segmented yet.")
        name = self._node.GetName()
        if not self._rows:
            return _("“{name}” holds no measurements of MultiOrganSeg.").format(name=name)
        flagged = sum(bool(row.flags) for row in self._rows)
        looks = _("{count} to look at, on top").format(count=flagged) if flagged else _("nothing was noticed")
        return _("{name}: {count} organs, {looks}.").format(name=name, count=len(self._rows), looks=looks)

    def _fill(self) -> None:
        table = self._ui.resultsTable
        blocked = table.blockSignals(True)
        table.clearContents()
        table.rowCount = len(self._rows)
        for number, row in enumerate(self._rows):
            organ = qt.QTableWidgetItem(row.name)
            organ.setIcon(swatch(row.color))
            organ.setToolTip(row.name)
            table.setItem(number, 0, organ)
            table.setItem(number, 1, _number(row.volume_ml, ".1f"))
            table.setItem(number, 2, _number(row.mean_intensity, ".0f"))
            table.setItem(number, 3, _number(row.confidence, ".2f"))
            flags = qt.QTableWidgetItem(", ".join(flag_title(flag) for flag in row.flags))
            flags.setToolTip("\n".join(flag_text(flag) for flag in row.flags))
            table.setItem(number, 4, flags)
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

    def _go_to(self, number: int) -> None:
        if self._node is None or not 0 <= number < len(self._rows):
            return
        segment_id = self._rows[number].segment_id
        self._describe(number)
        select_in_editor(self._node, segment_id)
        jump_to(self._node, segment_id)

    def _edit(self) -> None:
        row = self._ui.resultsTable.currentRow()
        select_in_editor(self._node, self._rows[max(row, 0)].segment_id)
        slicer.util.selectModule("SegmentEditor")

    def _show_surfaces(self, shown: bool) -> None:
        if self._node is not None:
            set_surfaces_visible(self._node, shown)

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


_SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


def _export_dicom(node: Any, path: Path) -> None:
    dependencies.ensure_dicom_export()
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    result.export_dicom_seg(node, node.GetNodeReference(role), path)


def _number(value: float, form: str) -> Any:
    item = qt.QTableWidgetItem("–" if math.isnan(value) else format(value, form))
    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return item

"""The list of organs: ticked, coloured and searchable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.text import counted
from MultiOrganSegLib.panels.pictures import swatch
from MultiOrganSegLib.parameters import NO_ORGAN, organ_keys


class OrganList:
    """Which of a model's organs are wanted.

    Args:
        ui: The widgets of the .ui file.
        changed: Called with the new text for `Parameters.organs` when the user ticks something.
    """

    def __init__(self, ui: Any, changed: Callable[[str], None]) -> None:
        self._list = ui.organList
        self._search = ui.organSearch
        self._count = ui.organCountLabel
        self._changed = changed
        self._catalogue: Catalogue | None = None
        self._list.connect("itemChanged(QListWidgetItem*)", lambda _item: self._report())
        self._search.connect("textChanged(QString)", lambda _text: self._filter())
        ui.allOrgansButton.connect("clicked(bool)", lambda: self._tick_shown(True))
        ui.noOrgansButton.connect("clicked(bool)", lambda: self._tick_shown(False))

    def fill(self, keys: Sequence[str], catalogue: Catalogue) -> None:
        """List the organs of a model, all ticked."""
        self._catalogue = catalogue
        blocked = self._list.blockSignals(True)
        self._list.clear()
        for key in keys:
            organ = catalogue.get(key)
            item = qt.QListWidgetItem(organ.name)
            item.setIcon(swatch([part / 255 for part in organ.color]))
            item.setData(qt.Qt.UserRole, key)
            item.setCheckState(qt.Qt.Checked)
            item.setToolTip(_tip(organ))
            self._list.addItem(item)
        self._list.blockSignals(blocked)
        self._filter()
        self._tell()

    def set_text(self, text: str) -> None:
        """Tick the organs that a text for `Parameters.organs` names; all when it names none of this model."""
        wanted = set(organ_keys(text))
        here = {self._key(item) for item in self._items()}
        every = not wanted or not (wanted & here or wanted == {NO_ORGAN})
        blocked = self._list.blockSignals(True)
        for item in self._items():
            ticked = every or self._key(item) in wanted
            item.setCheckState(qt.Qt.Checked if ticked else qt.Qt.Unchecked)
        self._list.blockSignals(blocked)
        self._tell()

    @property
    def text(self) -> str:
        """Text for `Parameters.organs` that stands for what is ticked."""
        ticked = [self._key(item) for item in self._items() if _is_ticked(item)]
        if len(ticked) == self._list.count:
            return ""
        return ",".join(ticked) or NO_ORGAN

    def _items(self) -> Iterator[Any]:
        for row in range(self._list.count):
            yield self._list.item(row)

    def _key(self, item: Any) -> str:
        return str(item.data(qt.Qt.UserRole))

    def _filter(self) -> None:
        words = self._search.text
        found = {organ.key for organ in self._catalogue.search(words)} if self._catalogue else set()
        for item in self._items():
            item.setHidden(self._key(item) not in found)

    def _tick_shown(self, ticked: bool) -> None:
        blocked = self._list.blockSignals(True)
        for item in self._items():
            if not item.isHidden():
                item.setCheckState(qt.Qt.Checked if ticked else qt.Qt.Unchecked)
        self._list.blockSignals(blocked)
        self._report()

    def _report(self) -> None:
        self._tell()
        self._changed(self.text)

    def _tell(self) -> None:
        ticked = sum(_is_ticked(item) for item in self._items())
        self._count.text = counted(
            self._list.count, _("{ticked} of {count} organ"), _("{ticked} of {count} organs"), ticked=ticked
        )


def _is_ticked(item: Any) -> bool:
    return bool(item.checkState() == qt.Qt.Checked)


def _tip(organ: Any) -> str:
    if organ.type is None:
        return str(organ.key)
    return f"{organ.key} · {organ.type.scheme} {organ.type.value} {organ.type.meaning}"

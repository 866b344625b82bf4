"""Loads .ui files with stand-ins for the promoted widgets, and refuses what they do not have."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from PySide6.QtCore import QBuffer, QByteArray, QDir
from PySide6.QtUiTools import QUiLoader as PySideLoader

from pythonqt.classes import exported_names
from pythonqt.connections import normal_signature, signal_of

_names = exported_names()
_FORMAT_PROPERTIES = {("QLabel", "buddy")}
"""What the .ui format writes as a property and the loader carries out by a method."""


class UiError(RuntimeError):
    """The .ui file names a class, property, signal or slot that does not exist."""


def widget_class(name: str) -> Any:
    """The class that a .ui file calls so.

    Raises:
        UiError: There is no such class.
    """
    import ctk
    import slicer

    for module in (_names, vars(ctk), vars(slicer)):
        if isinstance(module.get(name), type):
            return module[name]
    message = f"unknown widget class {name}"
    raise UiError(message)


class _Loader(PySideLoader):
    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        widget = widget_class(class_name)(parent) if parent is not None else widget_class(class_name)()
        widget.setObjectName(name)
        self.made.append(widget)
        return widget


class QUiLoader:
    """Stands for QUiLoader as `slicer.util.loadUI` uses it."""

    def load(self, file: Any) -> Any:
        """Build the widget of an open .ui file, with its connections.

        Raises:
            UiError: The file names a class, property, signal or slot that does not exist.
        """
        path = Path(file.fileName())
        file.close()
        root = ElementTree.parse(path).getroot()
        for element in root.iter("widget"):
            widget_class(element.attrib["class"])
        connections = [{part.tag: part.text or "" for part in c} for c in root.iter("connection")]
        for element in root.iter("connections"):
            element.clear()
        loader = _Loader()
        loader.setWorkingDirectory(QDir(str(path.parent)))
        buffer = QBuffer()
        buffer.setData(QByteArray(ElementTree.tostring(root)))
        buffer.open(QBuffer.OpenModeFlag.ReadOnly)
        widget: Any = loader.load(buffer)
        if widget is None:
            raise UiError(loader.errorString())
        widget._made = loader.made
        _check_properties(root, widget)
        for connection in connections:
            _connect(widget, connection)
        return widget


def _check_properties(root: ElementTree.Element, widget: Any) -> None:
    for element in root.iter("widget"):
        built = _find(widget, element.attrib["name"])
        for entry in element.findall("property"):
            name = entry.attrib["name"]
            is_dynamic = entry.attrib.get("stdset") == "0"
            is_format = (element.attrib["class"], name) in _FORMAT_PROPERTIES
            if not is_dynamic and not is_format and built.metaObject().indexOfProperty(name) < 0:
                message = f"{element.attrib['class']} {built.objectName} has no property {name}"
                raise UiError(message)


def _find(widget: Any, name: str) -> Any:
    found = widget if widget.objectName == name else widget.findChild(_names["QObject"], name)
    if found is None:
        message = f"nothing in the file is called {name}"
        raise UiError(message)
    return found


def _connect(widget: Any, connection: dict[str, str]) -> None:
    sender, receiver = _find(widget, connection["sender"]), _find(widget, connection["receiver"])
    try:
        signal_of(sender, connection["signal"])
    except ValueError as error:
        raise UiError(str(error)) from error
    slot = connection["slot"]
    name = slot.split("(")[0]
    is_native = receiver.metaObject().indexOfSlot(normal_signature(slot)) >= 0
    if not is_native and name not in getattr(type(receiver), "mrml_slots", ()):
        message = f"{type(receiver).__name__} has no slot {slot}"
        raise UiError(message)
    sender.connect(connection["signal"], getattr(receiver, name))
